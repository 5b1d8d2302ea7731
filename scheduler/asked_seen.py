"""The background traffic that a scenario asked for beside what the counters of a run saw: evidence of either world."""

from __future__ import annotations

from typing import Any

from scheduler.record import Outcome
from workloads import BACKGROUND_TAIL_S, Scenario
from workloads.background_load import congestion_evidence


def asked_and_seen(scenario: Scenario, outcome: Outcome) -> dict[str, Any]:
    """`workloads.background_load.congestion_evidence` of one run."""
    fabric, roles = scenario.build()
    last_s = max((record.timestamp_s for record in outcome.requests), default=0.0)
    plan = scenario.background(fabric, roles, last_s + BACKGROUND_TAIL_S)
    transfers = (
        (decision["decided_s"], decision["tier"], float(decision["kv_bytes"])) for decision in outcome.decisions
    )
    return congestion_evidence(scenario.congestion.kind, plan, fabric, outcome.links, transfers)
