"""The fidelity verdict of one emulated run: how far its evidence lets it be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from scenario import Scenario
from serving import Outcome
from testbed.calibration import PAYLOAD_OF_WIRE
from testbed.request_movers import LATE_S
from topologies import Level

LATE_SUSPECT_MS = LATE_S * 1e3
LATE_INVALID_MS = 200.0
"""99th percentile of how late requests were issued: 20 ms is a tenth of a short transfer, 200 ms a whole one."""

LATE_INVALID = 0.1
"""Share of requests issued more than `LATE_SUSPECT_MS` late, of which so many make another workload: our choice."""

STARVED_SUSPECT = 0.50
"""Share of 250 ms windows without idle processor time. No more than a suspicion: with 0, 2, 4 and 8 busy loops beside
it on two cores, 77, 100, 100 and 100 % of its windows starved, the same run had mean transfers of 397, 365, 334 and
302 ms (one run each)."""

LAG_SUSPECT_MS = 10.0
LAG_INVALID_MS = 50.0
"""99th percentile of a timer's lag in a host's namespace: what it adds to every time that is measured."""

SWITCH_WAIT_SUSPECT = 0.08
SWITCH_WAIT_INVALID = 0.3
"""Share of the time in which vswitchd could have run and had no processor: its wait is every packet's. Measured, one
run each of the same 30 transfers without background: 0.03 alone (median gap to the fluid answer 5 ms), 0.10 beside
four busy loops (16 ms), 0.12, 0.12 and 0.13 beside two other testbeds (11, 21 and 31 ms); 0.3 is our choice."""

AGE_SLACK_S = 0.25
"""Samples may be this much older than the knobs say (`refresh_s + poll_s + delay_s`), 99th percentile over decisions,
before the oracle counts as not having kept up."""

LOSSES_A_DROP = 32
"""Frames that may be lost for one that a full queue has dropped: vswitchd then drops what is left of its batch."""

LEAST_LOSS = 0.001
"""Of the frames delivered, how many may be lost in no queue, or sent again for no loss, without being looked into."""

RETRANSMISSIONS_OFF = 0.25
"""How far the segments that senders sent again may be from the frames that were lost."""

SQUEEZED = 0.001
"""Times that the kernel ran out of its budget for received packets, over frames delivered. Measured: 0."""

CALIBRATION_SUSPECT = 0.85
CALIBRATION_INVALID = 0.6
"""Rate of a blob on an idle path over what its links should give, the lesser of before and after. Measured: 0.97 on a
machine with 2 % idle time, 0.11 and 0.16 where the links were 25 times as fast as by default."""

SATURATED_OFF = 0.05
"""How far the median rate of full ports may be from the shaper's. Measured: 0.999 of it."""

OVERSHOOT = 1.05
"""The most that a port may carry in a tenth of a second over its shaper's rate and burst. Measured: 0.99."""

CONSERVED = (0.97, 1.15)
"""Bytes that reached hosts over those that the workers acknowledged, headers of full frames included: beyond that come
acknowledgements and what was sent twice. Measured: 1.02 to 1.03."""

PATHS_MISMATCH = 0.2
"""Bytes on the links of equal-cost choice that the paths of the connections do not explain, over all bytes there."""

LEAST_BYTES = 1_000_000
"""Fewer bytes than this say nothing about their conservation."""


class VerdictReason(NamedTuple):
    """A probe that is off: what it says, whether the run is lost, and how far beyond its limit it is (1: just)."""

    probe: str
    words: str
    invalid: bool
    excess: float


def judge(scenario: Scenario, outcome: Outcome) -> dict[str, Any]:
    """`verdict` valid, suspect or invalid, the `reasons`, worst first, and the `worst` probe; a valid run has none."""
    found = sorted(_reasons(scenario, outcome), key=lambda finding: (not finding.invalid, -finding.excess))
    verdict = "valid" if not found else "invalid" if found[0].invalid else "suspect"
    return {
        "verdict": verdict,
        "reasons": [finding.words for finding in found],
        "worst": found[0].probe if found else None,
    }


def _reasons(scenario: Scenario, outcome: Outcome) -> Iterator[VerdictReason]:
    yield from _fabric_reuse(outcome.evidence)
    yield from _machine(outcome.evidence)
    yield from _network(outcome.evidence)
    yield from _losses(outcome.evidence)
    yield from _paths(scenario, outcome)
    failed = [record.error for record in outcome.requests if record.status == "failed"]
    if failed:
        yield VerdictReason("failures", f"{len(failed)} requests failed; the first: {failed[0]}", True, len(failed))
    ages_s = [r.oracle_age_ms / 1e3 for r in outcome.requests if r.oracle_age_ms == r.oracle_age_ms]
    knobs = scenario.oracle
    allowed_s = knobs.refresh_s + knobs.poll_s + knobs.delay_s + AGE_SLACK_S
    oldest_s = sorted(ages_s)[int(0.99 * (len(ages_s) - 1))] if ages_s else 0.0
    if knobs.source != "static" and not knobs.loss and oldest_s > allowed_s:
        words = f"the network view was {oldest_s:.1f} s old (p99; limit {allowed_s:g} s, knob {knobs.refresh_s:g} s)"
        yield VerdictReason("oracle_age", words, False, oldest_s / allowed_s)
    late = outcome.evidence.get("late_requests", 0)
    if late > LATE_INVALID * len(outcome.requests):
        words = f"{late} of {len(outcome.requests)} requests were issued over {LATE_SUSPECT_MS:g} ms late"
        yield VerdictReason("late_requests", words, True, late / (LATE_INVALID * max(len(outcome.requests), 1)))
    for key in ("worker_complaints", "background_failures"):
        if complaints := outcome.evidence.get(key):
            words = f"{len(complaints)} {key.replace('_', ' ')}; the first: {complaints[0]}"
            yield VerdictReason(key, words, False, len(complaints))


def _fabric_reuse(evidence: dict[str, Any]) -> Iterator[VerdictReason]:
    """Whether the fabric held nothing of another run at the start, and nothing of this one at the end."""
    for key, when, invalid in (("clean_start", "before", True), ("clean_end", "after", False)):
        proof = evidence.get(key, {"clean": True})
        if not proof["clean"]:
            words = f"the fabric was not clean {when} the run ({proof['took_s']:.1f} s were waited): {proof['left'][0]}"
            yield VerdictReason(key, words, invalid, float(len(proof["left"])))


def _machine(evidence: dict[str, Any]) -> Iterator[VerdictReason]:
    """Whether the processors kept up."""
    for probe, key, what, suspect_ms, invalid_ms in (
        ("arrival_lateness", "arrival_lateness_p99_ms", "requests were issued late", LATE_SUSPECT_MS, LATE_INVALID_MS),
        ("timer_lag", "timer_lag_p99_ms", "timers fired late", LAG_SUSPECT_MS, LAG_INVALID_MS),
    ):
        late_ms = evidence.get(key, 0.0)
        if late_ms > suspect_ms:
            limit_ms = invalid_ms if late_ms > invalid_ms else suspect_ms
            words = f"{what}: p99 {late_ms:.0f} ms (limit {limit_ms:g})"
            yield VerdictReason(probe, words, late_ms > invalid_ms, late_ms / limit_ms)
    starved = evidence.get("cpu_starved", 0.0)
    if starved > STARVED_SUSPECT:
        words = f"no processor was idle in {starved:.0%} of the quarter seconds (limit {STARVED_SUSPECT:.0%})"
        yield VerdictReason("cpu_starved", words, False, starved / STARVED_SUSPECT)
    wait = evidence.get("switch_wait_mean", 0.0)
    if wait > SWITCH_WAIT_SUSPECT:
        limit = SWITCH_WAIT_INVALID if wait > SWITCH_WAIT_INVALID else SWITCH_WAIT_SUSPECT
        words = (
            f"the switches waited for a processor {wait:.0%} of the time (limit {limit:.0%}): other work is in the way"
        )
        yield VerdictReason("switch_wait", words, wait > SWITCH_WAIT_INVALID, wait / limit)
    if drops := evidence.get("softnet_drops", 0):
        yield VerdictReason(
            "softnet_drops", f"the kernel dropped {drops} packets before any switch saw them", False, drops
        )
    squeezes, allowed = evidence.get("softnet_squeezes", 0), SQUEEZED * evidence.get("delivered_frames", 0)
    if squeezes > allowed:
        words = f"the kernel put off received packets {squeezes} times (limit {allowed:.0f})"
        yield VerdictReason("softnet_squeezes", words, False, squeezes / max(allowed, 1))


def _network(evidence: dict[str, Any]) -> Iterator[VerdictReason]:
    """Whether the links were what the specification says."""
    rate = min(evidence.get("calibration", [1.0]))
    if rate < CALIBRATION_SUSPECT:
        invalid = rate < CALIBRATION_INVALID
        limit = CALIBRATION_INVALID if invalid else CALIBRATION_SUSPECT
        words = (
            f"an idle path gave {rate:.0%} of its rate (limit {limit:.0%}): the links are faster than this machine"
            " carries; raise emulation.rate_scale or emulation.time_dilation"
        )
        yield VerdictReason("calibration", words, invalid, limit / max(rate, 1e-3))
    saturated = evidence.get("saturated_rate")
    if saturated is not None and abs(saturated - 1) > SATURATED_OFF:
        words = f"full ports carried {saturated:.1%} of their shaper's rate (limit {1 - SATURATED_OFF:.0%})"
        yield VerdictReason("saturated_rate", words, False, abs(saturated - 1) / SATURATED_OFF)
    overshoot = evidence.get("port_overshoot", 0.0)
    if overshoot > OVERSHOOT:
        port = evidence.get("port_overshoot_at") or "a port"
        words = f"{port} carried {overshoot:.2f} x what its shaper allows in a tenth of a second (limit {OVERSHOOT:g})"
        yield VerdictReason("port_overshoot", words, True, overshoot / OVERSHOOT)
    delivered = conserved(evidence)
    if delivered is not None and not CONSERVED[0] <= delivered <= CONSERVED[1]:
        words = (
            f"switches delivered {delivered:.2f} x the bytes of the workers (between {CONSERVED[0]} and {CONSERVED[1]})"
        )
        invalid = delivered < CONSERVED[0]
        excess = CONSERVED[0] / max(delivered, 1e-3) if invalid else delivered / CONSERVED[1]
        yield VerdictReason("conservation", words, invalid, excess)


def _losses(evidence: dict[str, Any]) -> Iterator[VerdictReason]:
    """Whether full queues account for the frames that were lost, and these for what senders sent again."""
    if "queue_drops" not in evidence or "retransmitted" not in evidence:
        return
    lost, again = max(evidence["lost_frames"], 0), evidence["retransmitted"]
    spare = LEAST_LOSS * evidence["delivered_frames"]
    explained = LOSSES_A_DROP * evidence["queue_drops"] + spare
    if lost > explained:
        words = f"{lost} frames were lost in the fabric, of which full queues dropped {evidence['queue_drops']}"
        yield VerdictReason("losses", words, False, lost / explained)
    apart, allowed = abs(again - lost), RETRANSMISSIONS_OFF * max(again, lost) + spare
    if apart > allowed and not evidence.get("background_udp"):
        words = f"senders sent {again} segments again for {lost} frames lost in the fabric"
        yield VerdictReason("retransmissions", words, False, apart / allowed)


def _paths(scenario: Scenario, outcome: Outcome) -> Iterator[VerdictReason]:
    """Whether what every link of choice carried is what the connections that took it say they moved."""
    counted = outcome.evidence.get("link_bytes", {})
    if not outcome.paths or any(row["path"] < 0 for row in outcome.paths) or outcome.evidence.get("background_udp"):
        return
    scale = outcome.evidence["rate_scale"] * PAYLOAD_OF_WIRE
    told: Counter[str] = Counter()
    for row in outcome.paths:
        for link in row["links"]:
            told[link] += row["bytes"] / scale
    fabric, _ = scenario.build()
    level = {switch.name: switch.level for switch in fabric.switches}
    choice = [
        link.name for link in fabric.links if Level.TOR <= level.get(link.source, -1) < level.get(link.target, -1)
    ]
    total = sum(counted.get(link, 0) for link in choice)
    mismatch = sum(abs(counted.get(link, 0) - told[link]) for link in choice) / max(total, 1)
    outcome.evidence["paths_mismatch"] = mismatch
    if total > LEAST_BYTES and mismatch > PATHS_MISMATCH:
        words = (
            f"the paths told do not explain {mismatch:.0%} of the bytes on links of choice (limit {PATHS_MISMATCH:.0%})"
        )
        yield VerdictReason("paths", words, False, mismatch / PATHS_MISMATCH)


def conserved(evidence: Mapping[str, Any]) -> float | None:
    """Bytes that switches delivered over those of the workers, with headers.

    None where datagrams, of which nobody acknowledges what arrived, or too few bytes leave nothing to compare.
    """
    workers = (evidence.get("kv_wire_bytes", 0) + evidence.get("background_bytes", 0)) / PAYLOAD_OF_WIRE
    if workers < LEAST_BYTES or "delivered_bytes" not in evidence or evidence.get("background_udp"):
        return None
    return float(evidence["delivered_bytes"] / workers)
