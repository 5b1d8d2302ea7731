"""The kinds of background congestion: who sends to whom when, the load offered to the links, and what was measured."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from scenario import BackgroundFlow, CongestionSpec, Scenario, plan_background
from scenario.background_load import (
    congestion_evidence,
    link_tiers,
    measured_utilisation,
    offered_utilisation,
    path_shares,
)
from simulator.analytic_world import AnalyticWorld
from simulator.simulation import SimulationSpec
from testbed.background_player import start_command
from topologies import FabricSpec, Roles, build_fattree, place
from workloads import WorkloadError

FABRIC = build_fattree(FabricSpec())
ROLES = place(FABRIC)
TIERS = link_tiers(FABRIC)
KINDS = ("constant", "onoff", "hotspot", "incast", "shuffle")


def planned(horizon_s: float = 60.0, seed: int = 0, **fields: Any) -> tuple[BackgroundFlow, ...]:
    return plan_background(CongestionSpec(**fields), FABRIC, ROLES, 0.0, horizon_s, np.random.default_rng(seed))


def offered(horizon_s: float = 60.0, **fields: Any) -> Any:
    return offered_utilisation(planned(horizon_s, **fields), FABRIC, 0, horizon_s)


# Plans


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_is_numbered_in_the_order_of_its_starts_and_repeats_with_its_seed(kind: str) -> None:
    plan = planned(kind=kind)
    assert plan == planned(kind=kind)
    assert [flow.flow_id for flow in plan] == list(range(len(plan)))
    starts_s = [flow.start_s for flow in plan]
    assert starts_s == sorted(starts_s)
    assert starts_s[0] >= 0
    assert starts_s[-1] < 60
    assert all(flow.source != flow.target and flow.stop_s > flow.start_s for flow in plan)


@pytest.mark.parametrize("kind", ["onoff", "incast"])
def test_hot_spots_are_independent_and_the_plan_stays_in_order(kind: str) -> None:
    one, four = planned(kind=kind, horizon_s=600), planned(kind=kind, horizon_s=600, hot_spots=4)
    assert [flow.flow_id for flow in four] == list(range(len(four)))
    assert [flow.start_s for flow in four] == sorted(flow.start_s for flow in four)
    assert sum(flow.stop_s - flow.start_s for flow in four) == pytest.approx(
        4 * sum(flow.stop_s - flow.start_s for flow in one), rel=0.15
    )
    if kind == "onoff":  # the first of them is the only one of a plan of one
        without_number = {replace(flow, flow_id=0) for flow in four}
        assert {replace(flow, flow_id=0) for flow in one} < without_number


def around_zero(from_s: float, seed: int = 0, to_s: float = 60.0, **fields: Any) -> tuple[BackgroundFlow, ...]:
    return plan_background(CongestionSpec(**fields), FABRIC, ROLES, from_s, to_s, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hot_spots", [1, 3])
def test_how_early_the_traffic_begins_changes_none_of_what_follows(kind: str, hot_spots: int) -> None:
    """Numbers decide source ports and paths, so runs of other refresh intervals need the same ones."""
    plans = [around_zero(from_s, kind=kind, hot_spots=hot_spots) for from_s in (0.0, -7.0, -33.0)]
    for shorter, longer in pairwise(plans):
        for flow in shorter:
            same = longer[flow.flow_id]
            assert replace(same, start_s=flow.start_s) == flow
            assert same.start_s <= flow.start_s
    assert min(flow.start_s for flow in plans[-1]) == -33.0 or kind in ("onoff", "incast")
    assert all(flow.start_s >= -33 and flow.stop_s > flow.start_s for flow in plans[-1])


@pytest.mark.parametrize("at_s", [-30.0, 0.0, 25.0])
def test_on_off_traffic_is_as_often_on_at_any_moment(at_s: float) -> None:
    on = [
        any(flow.start_s <= at_s < flow.stop_s for flow in around_zero(-40, seed, mean_on_s=2.0, mean_off_s=6.0))
        for seed in range(1500)
    ]
    assert np.mean(on) == pytest.approx(0.25, abs=0.035)  # three standard errors


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "onoff", "mean_on_s": 2.0, "mean_off_s": 6.0},
        {"kind": "onoff", "mean_on_s": 4.0, "mean_off_s": 4.0},
        {"kind": "hotspot", "period_s": 6.0},
        {"kind": "incast", "period_s": 8.0},
    ],
)
def test_the_time_scale_is_the_integral_of_the_autocorrelation(fields: dict[str, Any]) -> None:
    """Of the traffic as a whole where it comes and goes, of one rack's where it only moves."""
    step_s, span_s, lags = 0.1, 20_000.0, 100
    load = np.zeros(int(span_s / step_s))
    for flow in around_zero(0.0, to_s=span_s, **fields):
        if (
            fields["kind"] == "onoff"
            or (fields["kind"], FABRIC.instances[flow.target].rack) == ("hotspot", 0)
            or (fields["kind"] == "incast" and flow.target == ROLES.decode[0])
        ):
            load[round(flow.start_s / step_s) : round(flow.stop_s / step_s)] = 1
    centred = load - load.mean()
    first_zero = next(k for k in range(1, 10 * lags) if np.mean(centred[:-k] * centred[k:]) <= 0)
    correlation = [np.mean(centred[: len(centred) - k] * centred[k:]) for k in range(first_zero)]
    integral_s = step_s * (np.sum(correlation) / correlation[0] - 0.5)
    assert integral_s == pytest.approx(CongestionSpec(**fields).correlation_s, rel=0.15)


@pytest.mark.parametrize("kind", ["none", "constant", "shuffle"])
def test_what_does_not_move_has_no_time_scale(kind: str) -> None:
    assert CongestionSpec.model_validate({"kind": kind}).correlation_s == np.inf


@pytest.mark.parametrize(("tiers", "loads"), [((3,), (0.2, 0.4, 0.8)), ((2,), (0.4, 0.8, 0)), ((1,), (0.8, 0, 0))])
def test_constant_traffic_loads_the_tier_that_was_named(tiers: Any, loads: tuple[float, ...]) -> None:
    found = offered(kind="constant", utilisation=0.8, tiers=tiers)
    for tier, load in zip((1, 2, 3), loads, strict=True):
        assert found[tier == TIERS] == pytest.approx(load)


def test_several_tiers_all_carry_the_utilisation_and_none_twice() -> None:
    found = offered(kind="constant", utilisation=0.6, tiers=(1, 2, 3))
    assert found[TIERS >= 1] == pytest.approx(0.6)


def test_a_hot_spot_is_one_rack_at_a_time_drawn_anew_from_all() -> None:
    plan = planned(4000, kind="hotspot", period_s=10, moves="rack")
    racks: dict[float, set[tuple[int, int]]] = {}
    for flow in plan:
        target = FABRIC.instances[flow.target]
        racks.setdefault(flow.start_s, set()).add((target.pod, target.rack))
    assert list(racks) == [10.0 * turn for turn in range(400)]
    in_turn = [next(iter(rack)) for rack in racks.values() if len(rack) == 1]
    assert len(in_turn) == 400
    assert all(in_turn.count(rack) == pytest.approx(100, abs=27) for rack in set(in_turn))
    for later in (1, 4):  # neither the last place nor a round decides the next one
        same = sum(one == other for one, other in zip(in_turn, in_turn[later:], strict=False))
        assert same == pytest.approx(100, abs=27)


def test_the_busiest_link_of_a_hot_spot_carries_the_utilisation() -> None:
    for moves, tier in (("rack", 2), ("pod", 3)):
        found = offered(5, kind="hotspot", period_s=5, moves=moves, utilisation=0.9)
        assert found.max() == pytest.approx(0.9)
        assert TIERS[found.argmax()] == tier


def test_an_incast_has_all_its_senders_at_once_for_half_of_its_period() -> None:
    plan = planned(kind="incast", period_s=4, flows=12)
    for start_s in (0.0, 4.0, 56.0):
        burst = [flow for flow in plan if flow.start_s == start_s]
        assert len(burst) == len({flow.source for flow in burst}) == 12
        assert len({flow.target for flow in burst}) == 1
        assert burst[0].target in ROLES.decode
        assert {flow.stop_s for flow in burst} == {start_s + 2}
        assert {flow.rate_bps for flow in burst} == {None}


@pytest.mark.parametrize("kind", ["incast", "onoff"])
@pytest.mark.parametrize("utilisation", [0.3, 0.9])
def test_a_paced_hot_spot_offers_its_victims_link_what_was_asked_while_it_is_on(kind: str, utilisation: float) -> None:
    """All of its flows meet on the link to the target's server, and no link has more."""
    plan = planned(kind=kind, utilisation=utilisation, flows=12)
    for start_s in sorted({flow.start_s for flow in plan}):
        burst = [flow for flow in plan if flow.start_s == start_s]
        found = offered_utilisation(burst, FABRIC, start_s, burst[0].stop_s)
        into_the_server = FABRIC.paths(burst[0].source, burst[0].target)[0][-2]
        assert found[into_the_server] == pytest.approx(utilisation)
        assert found.max() == pytest.approx(utilisation)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hot_spots", [1, 4])
def test_what_leaves_the_senders_is_what_reaches_the_receivers(kind: str, hot_spots: int) -> None:
    carried = offered(kind=kind, hot_spots=hot_spots) * [link.capacity_bps for link in FABRIC.links]
    instances = {at.name for at in FABRIC.instances}
    sent = sum(bps for link, bps in zip(FABRIC.links, carried, strict=True) if link.source in instances)
    received = sum(bps for link, bps in zip(FABRIC.links, carried, strict=True) if link.target in instances)
    assert sent == pytest.approx(received)
    assert sent > 0


@pytest.mark.parametrize("kind", ["onoff", "hotspot", "incast"])
def test_what_moves_goes_elsewhere_with_another_seed(kind: str) -> None:
    assert planned(kind=kind) != planned(kind=kind, seed=1)


@pytest.mark.parametrize(("among", "servers"), [("decode", 4), ("all", 8)])
def test_a_shuffle_sends_from_every_server_to_every_other(among: str, servers: int) -> None:
    plan = planned(kind="shuffle", among=among)
    pairs = {(flow.source // 2, flow.target // 2) for flow in plan}
    assert len(pairs) == len(plan) == servers * (servers - 1)
    assert offered(kind="shuffle", among=among, utilisation=0.7).max() == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("fabric", "fields", "complaint"),
    [
        ({"pods": 1}, {"kind": "constant"}, "congestion.tiers: this fabric has no traffic of tier 3"),
        ({"pods": 1}, {"kind": "hotspot", "moves": "pod"}, "congestion.moves: this fabric has one pod"),
        ({"pods": 1, "racks_per_pod": 1}, {"kind": "shuffle"}, "congestion.among: a shuffle needs two servers"),
    ],
)
def test_a_kind_without_room_on_the_fabric_is_refused(fabric: Any, fields: Any, complaint: str) -> None:
    small = build_fattree(FabricSpec(**fabric))
    with pytest.raises(WorkloadError, match=complaint):
        plan_background(CongestionSpec(**fields), small, place(small), 0.0, 60, np.random.default_rng(0))


@pytest.mark.parametrize(
    "fields",
    [{"utilisation": 0}, {"utilisation": 1.1}, {"tiers": ()}, {"tiers": (0,)}, {"period_s": 0}, {"connections": 0}],
)
def test_numbers_that_make_no_sense_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CongestionSpec(**fields)


def test_udp_needs_a_rate() -> None:
    with pytest.raises(ValidationError, match="udp has no greedy form: give onoff a utilisation"):
        CongestionSpec(protocol="udp")
    assert CongestionSpec(protocol="udp", utilisation=0.5).pace == 0.5
    assert {flow.protocol for flow in planned(kind="constant", protocol="udp")} == {"udp"}


# Asked


def one_flow(source: int, target: int, **fields: Any) -> BackgroundFlow:
    return BackgroundFlow(0, 0.0, 10.0, source, target, **fields)


def test_greedy_flows_share_a_link_by_connections_after_the_paced_one_has_its_rate() -> None:
    # h0 and h2 are in two servers of one rack: 200 Gbit/s between them
    plan = [one_flow(0, 2, rate_bps=20e9), one_flow(0, 3, connections=2), one_flow(1, 2)]
    load = offered_utilisation(plan, FABRIC, 0, 10)
    sent_bps = [
        load[FABRIC.link_by_name[name].index] * FABRIC.link_by_name[name].capacity_bps
        for name in ("srv1>h3", "h1>srv0")
    ]
    assert sent_bps == pytest.approx([120e9, 60e9])
    assert load[FABRIC.link_by_name["srv0>tor0"].index] == pytest.approx(1.0)


def test_a_flow_counts_for_the_time_that_it_runs() -> None:
    plan = [BackgroundFlow(0, 2.0, 4.0, 0, 2, rate_bps=100e9)]
    link = FABRIC.link_by_name["srv0>tor0"].index
    assert offered_utilisation(plan, FABRIC, 0, 10)[link] == pytest.approx(0.1)
    assert offered_utilisation(plan, FABRIC, 3, 4)[link] == pytest.approx(0.5)
    assert offered_utilisation(plan, FABRIC, 4, 5)[link] == 0


def test_expected_shares_are_even_over_equal_paths() -> None:
    shares = path_shares(FABRIC, 0, 15)
    assert sorted(set(shares.tolist())) == [0, 0.25, 0.5, 1]
    assert shares[TIERS == 3].sum() == pytest.approx(2)


# Seen


def rows(**bytes_of: tuple[float, float]) -> list[dict[str, Any]]:
    return [
        {"time_s": at_s, "link": link.name, "bytes": bytes_of.get(link.source, (0, 0))[turn]}
        for turn, at_s in enumerate((1.0, 3.0))
        for link in FABRIC.links
    ]


def test_measured_is_what_the_byte_counters_grew_by() -> None:
    from_s, to_s, measured = measured_utilisation(rows(h0=(1e9, 1e9 + 0.9e12)), FABRIC)
    assert (from_s, to_s) == (1, 3)
    assert measured[FABRIC.link_by_name["h0>srv0"].index] == pytest.approx(1.0)
    assert measured.sum() == pytest.approx(1.0)


def test_a_log_of_one_instant_says_nothing() -> None:
    with pytest.raises(ValueError, match="spans no time"):
        measured_utilisation(rows()[: len(FABRIC.links)], FABRIC)
    assert congestion_evidence("none", (), FABRIC, [], []) == {}


def test_kv_is_taken_out_of_what_was_measured() -> None:
    """25 GB in 2 s over one server-ToR link: half of it; there are 16 such links, and a transfer crosses two."""
    log = rows(srv0=(0, 25e9))
    found = congestion_evidence("none", (), FABRIC, log, [(2.0, 1, 12.5e9), (5.0, 1, 1e15)])["tiers"]["1"]
    assert found == {"offered": 0, "total": 0.03125, "kv": 0.03125, "measured": 0.0}


# Both worlds


@pytest.mark.parametrize(
    ("network", "kind"),
    [*(("fluid", kind) for kind in KINDS), ("closed_form", "constant")],
)
def test_the_analytic_world_carries_what_was_offered(network: str, kind: str) -> None:
    """Paced kinds to 5 %; greedy ones meet the hash's luck. The closed form knows of no link between the ends."""
    scenario = Scenario.model_validate(
        {"congestion": {"kind": kind, "period_s": 2}, "workload": {"requests": 60, "max_input_tokens": 2000}}
    )
    with AnalyticWorld(scenario, SimulationSpec.model_validate({"network": network})) as world:
        found = world.run(scenario).evidence["congestion"]["tiers"]
    near = 0.25 if CongestionSpec.model_validate({"kind": kind}).pace is None else 0.05
    for tier in "123":
        assert found[tier]["measured"] == pytest.approx(found[tier]["offered"], rel=near, abs=0.01)


def test_the_worker_paces_payload_on_slower_links() -> None:
    command = start_command(one_flow(0, 2, rate_bps=25e9, connections=3), ("10.0.0.1", 7002), 2500.0)
    assert command["rate_bps"] == pytest.approx(1e7 * 1448 / 1514)
    assert command["connections"] == 3
    assert start_command(one_flow(0, 2), ("10.0.0.1", 7002), 2500.0)["rate_bps"] is None


def test_roles_are_respected() -> None:
    roles = Roles((0,), tuple(range(1, 16)))
    plan = plan_background(CongestionSpec(kind="incast"), FABRIC, roles, 0.0, 500, np.random.default_rng(1))
    assert {flow.target for flow in plan} <= set(roles.decode)
