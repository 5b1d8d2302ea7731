"""The plan of a run's faults: which, when, of what, and what is broken at each moment."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from controller.forwarding import REPLAN_DELAY_S
from scenario import (
    DETECTION_S,
    FAULT_KINDS,
    NETWORK_FAULTS,
    Fault,
    FaultKind,
    FaultsSpec,
    FaultState,
    Scenario,
    fault_edges,
    links_of,
    state_of,
)
from topologies import FabricError, Level

FABRIC, ROLES = Scenario().build()
LAST_S = 200.0


def planned(faults: Any, **changes: Any) -> tuple[Fault, ...]:
    return Scenario(faults=faults, **changes).fault_plan(FABRIC, ROLES, LAST_S)


def a_fault(kind: FaultKind, target: str, share: float = 0.5, delay_s: float = 1.0, loss: float = 0.01) -> Fault:
    return Fault(0, 1.0, 2.0, kind, target, share, delay_s, loss)


def names(links: frozenset[int]) -> set[str]:
    return {FABRIC.links[link].name for link in links}


def test_without_faults_there_is_no_plan() -> None:
    assert planned([]) == ()
    assert state_of([], FABRIC) == FaultState()


def test_events_are_planned_in_order_of_time_and_those_without_an_end_last() -> None:
    down = {"at_s": 5, "kind": "link_down", "target": "tor0>agg1", "for_s": 2}
    frozen = {"at_s": 1, "kind": "telemetry_frozen"}
    first, second = planned([down, frozen])
    assert (first.kind, first.target, first.until_s) == ("telemetry_frozen", "oracle", math.inf)
    assert (second.at_s, second.until_s) == (5, 7)
    edges = [(edge.at_s, edge.begins) for edge in fault_edges((first, second))]
    assert edges == [(1, True), (5, True), (7, False)]


def test_a_list_is_short_for_events() -> None:
    events = [{"at_s": 1, "kind": "switch_down", "target": "core0"}]
    assert FaultsSpec.model_validate(events) == FaultsSpec.model_validate({"events": events})


def test_what_flaps_ends_before_it_begins_again() -> None:
    flapping = [{"at_s": at_s, "kind": "link_down", "target": "tor0>agg1", "for_s": 1} for at_s in (1, 2)]
    assert [edge.begins for edge in fault_edges(planned(flapping))] == [True, False, True, False]


def test_a_cable_has_two_directions_and_a_switch_all_its_cables() -> None:
    assert names(links_of(a_fault("link_down", "agg1>tor0"), FABRIC)) == {"tor0>agg1", "agg1>tor0"}
    of_core = names(links_of(a_fault("switch_down", "core0"), FABRIC))
    assert of_core == {"core0>agg0", "agg0>core0", "core0>agg2", "agg2>core0"}
    assert links_of(a_fault("decode_worker_killed", "h2"), FABRIC) == frozenset()


def test_a_surge_comes_from_other_racks_with_numbers_behind_those_of_the_congestion() -> None:
    surge = {"at_s": 3, "kind": "background_surge", "target": "h9", "for_s": 2}
    plain, surged = (Scenario(faults=faults).background(FABRIC, ROLES, LAST_S) for faults in ([], [surge]))
    assert surged[: len(plain)] == plain
    added = surged[len(plain) :]
    assert [flow.flow_id for flow in surged] == list(range(len(surged)))
    assert len({flow.source for flow in added}) == len(added) - 4 == 12  # of twelve instances in other racks
    assert {(flow.start_s, flow.stop_s, flow.target, flow.rate_bps) for flow in added} == {(3, 5, 9, None)}
    assert min(FABRIC.tier(flow.source, 9) for flow in added) == 2


def test_faults_of_one_target_add_up() -> None:
    slow, slower = a_fault("link_degraded", "tor0>agg1", 0.5), a_fault("link_degraded", "agg1>tor0", 0.2)
    state = state_of([slow, slower], FABRIC)
    assert set(state.shares.values()) == {0.2}
    assert names(frozenset(state.shares)) == {"tor0>agg1", "agg1>tor0"}
    assert state.cut == frozenset()
    lossy, lossier = (a_fault("link_lossy", "tor0>agg1", loss=loss) for loss in (0.01, 0.2))
    assert set(state_of([lossier, lossy], FABRIC).losses.values()) == {0.2}
    assert state_of([lossy], FABRIC).cut == frozenset()
    delays = [a_fault("telemetry_delayed", "oracle", delay_s=delay_s) for delay_s in (1.0, 3.0)]
    assert state_of(delays, FABRIC).extra_delay_s == 3.0


def test_workers_and_the_controller_are_dead_or_hung() -> None:
    kinds: list[tuple[FaultKind, str]] = [
        ("prefill_worker_killed", "h0"),
        ("decode_worker_killed", "h2"),
        ("worker_hung", "h3"),
        ("controller_killed", "controller"),
    ]
    state = state_of([a_fault(kind, target) for kind, target in kinds], FABRIC)
    assert (state.dead, state.hung) == ({("prefill", 0), ("decode", 2)}, {3})
    assert (state.controller_dead, state.frozen) == (True, False)


@pytest.mark.parametrize(
    ("kind", "target", "said"),
    [
        ("link_down", "tor0>agg9", r"link_down cannot hit 'tor0>agg9' \(did you mean tor0>agg\d\?\)"),
        ("switch_down", "h0", "switch_down cannot hit 'h0'"),
        ("switch_down", "", "switch_down cannot hit nothing"),
        ("decode_worker_killed", "h0", "decode_worker_killed cannot hit 'h0'"),
        ("prefill_worker_killed", "h2", "prefill_worker_killed cannot hit 'h2'"),
        ("telemetry_frozen", "tor0", "telemetry_frozen cannot hit 'tor0'"),
    ],
)
def test_a_target_that_its_kind_cannot_hit_is_refused(kind: str, target: str, said: str) -> None:
    with pytest.raises(FabricError, match=rf"faults\.events\.0\.target: {said}"):
        planned([{"at_s": 1, "kind": kind, "target": target}])


@pytest.mark.parametrize(
    "event",
    [
        {"at_s": -1, "kind": "link_down"},
        {"at_s": 1, "kind": "earthquake"},
        {"at_s": 1, "kind": "link_down", "for_s": 0},
        {"at_s": 1, "kind": "link_degraded", "share": 1},
        {"at_s": 1, "kind": "link_lossy", "target": "tor0>agg1", "loss": 1},
        {"at_s": 1, "kind": "machine_paused"},
        {"at_s": 1, "kind": "link_down", "until": 2},
        {"kind": "link_down"},
    ],
)
def test_an_event_that_makes_no_sense_is_refused(event: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Scenario(faults=[event])


def test_random_faults_repeat_with_their_seed_only() -> None:
    drawn = {"random": {"rate": 0.5, "kinds": list(FAULT_KINDS), "mean_for_s": 2}}
    assert planned(drawn) == planned(drawn, policy="cla")
    assert planned(drawn) != planned(drawn, seed=1)
    own = {"random": {**drawn["random"], "seed": 7}}
    assert planned(own) == planned(own, seed=1)


def test_random_faults_have_their_rate_and_duration_and_hit_what_can_be_avoided() -> None:
    plan = planned({"random": {"rate": 5, "kinds": list(FAULT_KINDS), "mean_for_s": 2}})
    assert len(plan) == pytest.approx(5 * LAST_S, rel=0.1)
    assert {fault.kind for fault in plan} == set(FAULT_KINDS)
    assert sum(fault.until_s - fault.at_s for fault in plan) / len(plan) == pytest.approx(2, rel=0.1)
    level = {switch.name: switch.level for switch in FABRIC.switches}
    for fault in plan:
        if fault.kind in NETWORK_FAULTS:
            assert min(level.get(end, -1) for end in fault.target.split(">")) >= Level.TOR
    assert {fault.target for fault in plan if fault.kind == "switch_down"} == {
        name for name, at in level.items() if at >= Level.AGGREGATION
    }


def test_a_rate_that_is_a_wrong_unit_is_refused() -> None:
    with pytest.raises(FabricError, match=r"faults\.random\.rate"):
        planned({"random": {"rate": 1000}})


def test_both_worlds_detect_a_failed_link_after_the_same_time() -> None:
    assert DETECTION_S == REPLAN_DELAY_S
