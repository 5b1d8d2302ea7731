"""The load that a plan offers to the links once the paths of its connections are known: shares computed by hand."""

from __future__ import annotations

from typing import Any

import pytest

from scenario import BackgroundFlow
from scenario.background_load import congestion_evidence, offered_utilisation
from topologies import Fabric, FabricSpec, build_fattree

FABRIC: Fabric = build_fattree(FabricSpec())
"""Links of 200 Gbit/s to the ToRs, 100 above them and 50 to the cores; four paths across the pods."""

A, B, FAR, FURTHER = 0, 2, 8, 12
"""Instances on two servers of a rack of pod 0, and in the two racks of pod 1."""


def flow(number: int, source: int, target: int, connections: int = 1, rate_bps: float | None = None) -> BackgroundFlow:
    return BackgroundFlow(number, 0.0, 10.0, source, target, connections, rate_bps)


def offered(plan: list[BackgroundFlow], taken: dict[int, list[int]], to_s: float = 10.0) -> dict[str, float]:
    """Utilisation by link when each connection of a flow takes the path of that number."""
    by_id = {one.flow_id: one for one in plan}
    links = {
        number: [FABRIC.paths(by_id[number].source, by_id[number].target)[path] for path in paths]
        for number, paths in taken.items()
    }
    found = offered_utilisation(plan, FABRIC, 0.0, to_s, links)
    return {link.name: float(found[link.index]) for link in FABRIC.links}


def test_greedy_connections_on_one_core_share_it_and_leave_the_others_idle() -> None:
    plan = [flow(0, A, FAR), flow(1, B, FURTHER)]
    together = offered(plan, {0: [0], 1: [0]})
    assert together["agg0>core0"] == pytest.approx(1.0)
    assert together["srv0>tor0"] == pytest.approx(25 / 200)
    assert together["agg0>core1"] == together["tor0>agg1"] == 0
    apart = offered(plan, {0: [0], 1: [3]})
    assert (apart["agg0>core0"], apart["agg1>core3"]) == pytest.approx((1.0, 1.0))
    assert apart["srv0>tor0"] == pytest.approx(50 / 200)


def test_what_one_bottleneck_takes_from_a_connection_the_others_of_its_links_get() -> None:
    plan = [flow(0, A, FAR), flow(1, B, FURTHER), flow(2, A, FURTHER)]
    found = offered(plan, {0: [0], 1: [0], 2: [1]})  # two share core 0, one has core 1 to itself: 25, 25 and 50
    assert found["tor0>agg0"] == pytest.approx(100 / 100)
    assert found["srv0>tor0"] == pytest.approx(75 / 200)


def test_a_paced_flow_divides_its_rate_over_its_connections() -> None:
    found = offered([flow(0, A, FAR, connections=4, rate_bps=40e9)], {0: [0, 0, 0, 2]})
    assert found["agg0>core0"] == pytest.approx(30 / 50)
    assert found["agg1>core2"] == pytest.approx(10 / 50)


def test_a_flow_whose_paths_are_not_known_is_spread_over_all() -> None:
    found = offered([flow(0, A, FAR, rate_bps=40e9)], {})
    assert found["agg0>core0"] == found["agg1>core3"] == pytest.approx(10 / 50)


def test_only_the_time_that_a_flow_runs_counts() -> None:
    assert offered([flow(0, A, FAR)], {0: [0]}, to_s=40.0)["agg0>core0"] == pytest.approx(10 / 40)


def test_evidence_tells_both_and_names_the_busiest_link_of_the_true_paths() -> None:
    plan = [flow(0, A, FAR, rate_bps=40e9)]
    rows: list[dict[str, Any]] = [
        {"time_s": at_s, "link": link.name, "bytes": at_s * 1e9} for at_s in (0.0, 10.0) for link in FABRIC.links
    ]
    found = congestion_evidence("onoff", plan, FABRIC, rows, [], {0: [FABRIC.paths(A, FAR)[2]]})
    assert found["busiest"]["offered_on_paths"] == pytest.approx(40 / 50)
    assert found["busiest"]["offered"] == pytest.approx(10 / 50)
    assert found["tiers"]["3"]["offered"] == found["tiers"]["3"]["offered_on_paths"]  # the same bytes, elsewhere
    assert "offered_on_paths" not in congestion_evidence("onoff", plan, FABRIC, rows, [])["busiest"]
