"""Who watches a run in the analytic world: what is seen at each moment, and that nothing else changes by it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from scenario import Scenario
from serving import RunLook, Watch
from simulator import AnalyticWorld

BUSY = {
    "workload": {"requests": 60},
    "congestion": {"kind": "hotspot", "period_s": 1.5},
    "faults": {"events": [{"at_s": 3.0, "kind": "decode_worker_killed", "target": "h2", "for_s": 2.0}]},
}


def watched(scenario: Scenario, every_s: float) -> tuple[Any, list[RunLook]]:
    """The outcome of a run as plain data, without wall times, and all looks at it."""
    looks: list[RunLook] = []
    with AnalyticWorld(scenario) as world:
        outcome = world.run(scenario, watch=Watch(every_s, looks.append))
    return plain(outcome), looks


def plain(outcome: Any) -> Any:
    fields = dataclasses.asdict(outcome)
    del fields["evidence"]["measured"]
    return repr(fields)  # NaN is not equal to itself, its text is


@pytest.mark.parametrize("network", ["fluid", "closed_form"])
def test_a_run_that_is_watched_is_the_same_run(network: str) -> None:
    from simulator import SimulationSpec

    changes = BUSY if network == "fluid" else {**BUSY, "faults": {}}
    scenario, simulation = Scenario.model_validate(changes), SimulationSpec(network=network)  # type: ignore[arg-type]
    looks: list[RunLook] = []
    with AnalyticWorld(scenario, simulation) as world:
        alone = world.run(scenario)
        seen = world.run(scenario, watch=Watch(0.037, looks.append))
    assert plain(seen) == plain(alone)
    assert len(looks) > 300


def test_looks_come_at_their_times_and_count_every_request_once() -> None:
    scenario = Scenario.model_validate(BUSY)
    _, looks = watched(scenario, 0.5)
    assert [look.at_s for look in looks[:4]] == [0.0, 0.5, 1.0, 1.5]
    told = [number for look in looks for number in look.ttft_ms]
    assert len(told) == len(set(told))
    last = looks[-1]
    assert last.closed == len(told) + last.failed
    assert last.closed <= 60
    for look in looks:
        assert all(0 <= share <= 1 for share in look.utilisation.values())
        assert len(look.transfers) == look.stages["transfer"]


def test_the_links_show_the_hot_spot_and_the_snapshot_gets_older() -> None:
    scenario = Scenario.model_validate({**BUSY, "faults": {}, "oracle": {"refresh_s": 2.0}})
    _, looks = watched(scenario, 0.1)
    assert max(max(look.utilisation.values()) for look in looks) > 0.75
    ages_s = [look.snapshot_age_s for look in looks if look.snapshot_age_s is not None]
    assert len(ages_s) == len(looks)
    assert 1.5 < max(ages_s) <= 2.0 + 0.2
    assert min(ages_s) < 0.3


def test_a_look_survives_the_way_between_processes() -> None:
    import json

    _, looks = watched(Scenario.model_validate(BUSY), 0.2)
    crowded = max(looks, key=lambda look: len(look.transfers))
    assert crowded.transfers
    assert RunLook.from_json(json.loads(json.dumps(crowded.as_json()))) == crowded
