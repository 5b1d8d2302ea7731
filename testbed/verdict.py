"""The fidelity verdict of one emulated run: how far its evidence lets it be trusted."""

from __future__ import annotations

from typing import Any

from scheduler import Outcome
from workloads import Scenario

LATE_SUSPECT_MS = 20.0
LATE_INVALID_MS = 200.0
"""99th percentile of how late requests were issued: 20 ms is a tenth of a short transfer, 200 ms a whole one."""

STARVED_SUSPECT = 0.50
"""Share of 250 ms windows without idle processor time. No more than a suspicion: with 0, 2, 4 and 8 busy loops beside
it on two cores, 77, 100, 100 and 100 % of its windows starved, the same run had mean transfers of 397, 365, 334 and
302 ms (one run each)."""

LAG_SUSPECT_MS = 10.0
LAG_INVALID_MS = 50.0
"""99th percentile of a timer's lag in the replay: what it adds to every time that is measured."""

AGE_SLACK_S = 1.0
"""A sample may be this much older than `refresh_s + poll_s` before the oracle counts as not having kept up."""


def judge(scenario: Scenario, outcome: Outcome) -> dict[str, Any]:
    """`verdict` valid, suspect or invalid, and the `reasons`, worst first; a valid run has none."""
    invalid: list[str] = []
    suspect: list[str] = []
    late_ms = outcome.evidence.get("arrival_lateness_p99_ms", 0.0)
    if late_ms > LATE_INVALID_MS:
        invalid.append(f"requests were issued late: p99 {late_ms:.0f} ms (limit {LATE_INVALID_MS:g})")
    elif late_ms > LATE_SUSPECT_MS:
        suspect.append(f"requests were issued late: p99 {late_ms:.0f} ms (limit {LATE_SUSPECT_MS:g})")
    starved = outcome.evidence.get("cpu_starved", 0.0)
    if starved > STARVED_SUSPECT:
        suspect.append(f"no processor was idle in {starved:.0%} of the quarter seconds (limit {STARVED_SUSPECT:.0%})")
    lag_ms = outcome.evidence.get("timer_lag_p99_ms", 0.0)
    if lag_ms > LAG_INVALID_MS:
        invalid.append(f"timers fired late: p99 {lag_ms:.0f} ms (limit {LAG_INVALID_MS:g})")
    elif lag_ms > LAG_SUSPECT_MS:
        suspect.append(f"timers fired late: p99 {lag_ms:.0f} ms (limit {LAG_SUSPECT_MS:g})")
    failed = sum(record.status == "failed" for record in outcome.requests)
    if failed:
        first = next(record.error for record in outcome.requests if record.status == "failed")
        invalid.append(f"{failed} requests failed; the first: {first}")
    ages_s = [r.oracle_age_ms / 1e3 for r in outcome.requests if r.oracle_age_ms == r.oracle_age_ms]
    knobs = scenario.oracle
    allowed_s = knobs.refresh_s + knobs.poll_s + knobs.delay_s + AGE_SLACK_S
    if knobs.source != "static" and not knobs.loss and ages_s and max(ages_s) > allowed_s:
        suspect.append(f"the network view was up to {max(ages_s):.1f} s old (knob: {knobs.refresh_s:g} s)")
    for key in ("worker_complaints", "background_failures"):
        if found := outcome.evidence.get(key):
            suspect.append(f"{len(found)} {key.replace('_', ' ')}; the first: {found[0]}")
    return {"verdict": "invalid" if invalid else "suspect" if suspect else "valid", "reasons": invalid + suspect}
