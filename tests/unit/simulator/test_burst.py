"""A burst between two looks at the load: what a router has sent itself, and how it breaks ties."""

from __future__ import annotations

from collections import Counter

import pytest

from scenario import CongestionSpec, OracleSpec, Scenario
from tests.support.analytic_runs import play
from workloads import Request

BURST = [Request(number, 0.0, 4096, 64, tuple(range(100 * number, 100 * number + 8))) for number in range(32)]
"""Prompts of eight blocks that share nothing, all at once."""


def placed(policy: str, seed: int = 0) -> list[int]:
    """Where each of the burst goes on the default fabric: eight decode instances, two in the rack of each prefill."""
    scenario = Scenario(
        policy=policy,
        seed=seed,
        congestion=CongestionSpec(kind="none"),
        oracle=OracleSpec(load_refresh_s=60.0),
    )
    outcome = play(scenario, BURST)
    assert [record.status for record in outcome.requests] == ["completed"] * len(BURST)
    return [record.decode_id for record in sorted(outcome.requests, key=lambda record: record.request_id)]


@pytest.mark.parametrize("policy", ["netkv_topo_only", "netkv_static", "netkv_full", "netkv_fresh", "paper_full"])
def test_a_burst_between_two_looks_at_the_load_is_spread_over_all_instances(policy: str) -> None:
    assert Counter(placed(policy)) == dict.fromkeys((2, 3, 6, 7, 10, 11, 14, 15), 4)


def test_a_seed_breaks_ties_alike_and_another_seed_otherwise() -> None:
    assert placed("netkv_full", seed=1) == placed("netkv_full", seed=1)
    assert len({tuple(placed("netkv_full", seed=seed)) for seed in range(4)}) > 1
