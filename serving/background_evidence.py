"""The background traffic that a scenario offers beside what the counters of a run measured: evidence in either world.

Where the paths that connections took are known, as in emulation, the offered load is computed over these, too: greedy
connections offer as much as those leave them.
"""

from __future__ import annotations

import math
from typing import Any

from scenario import BackgroundFlow, Scenario, congestion_evidence, load_requests
from serving.outcome import Outcome

AFTER_ITS_END = "requests_after_its_end"
"""Where the evidence on congestion counts requests that came when it was over: turns later than forecast."""


def offered_and_measured(
    scenario: Scenario, outcome: Outcome, plan: tuple[BackgroundFlow, ...] | None = None
) -> dict[str, Any]:
    """`scenario.congestion_evidence` of one run. plan: its background flows, where they are known already."""
    fabric, roles = scenario.build()
    if plan is None:
        plan = scenario.background(fabric, roles, load_requests(scenario)[-1].timestamp_s)
    transfers = (
        (decision["decided_s"], decision["tier"], float(decision["kv_bytes"])) for decision in outcome.decisions
    )
    taken: dict[int, list[list[int]]] = {}
    for row in outcome.paths:
        if row["owner"] == "background" and row["links"]:
            taken.setdefault(row["number"], []).append([fabric.link_by_name[name].index for name in row["links"]])
    found = congestion_evidence(scenario.congestion.kind, plan, fabric, outcome.links, transfers, taken or None)
    end_s = max((flow.stop_s for flow in plan), default=math.inf)
    if after := sum(record.timestamp_s > end_s for record in outcome.requests):
        found[AFTER_ITS_END] = after
    return found
