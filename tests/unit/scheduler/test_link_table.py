"""What a transfer can get on a fabric: the vectorised tables beside a walk over every path."""

from __future__ import annotations

from collections.abc import Collection
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.in_flight import InFlight
from scheduler.link_table import LinkTable, spreading
from topologies import PLACEMENTS, Fabric, FabricError, FabricSpec, build_fattree, place


@pytest.mark.parametrize("paths", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("stripes", [1, 2, 3, 4, 5])
def test_spreading_is_what_enumeration_of_every_hash_gives(stripes: int, paths: int) -> None:
    most = [max(np.bincount(choice)) for choice in product(range(paths), repeat=stripes)]
    assert spreading(stripes, paths) == pytest.approx(stripes / (paths * np.mean(most)))


def test_four_stripes_on_two_paths_by_hand() -> None:
    """Of 16 throws 6 leave two on the fuller path, 8 three and 2 four: 44 / 16 = 2.75; 4 / (2 x 2.75)."""
    assert spreading(4, 2) == pytest.approx(4 / 5.5)


@pytest.mark.parametrize(("stripes", "paths"), [(64, 64), (4, 4095), (1, 4095)])
def test_spreading_stays_a_share_at_the_limits_of_a_specification(stripes: int, paths: int) -> None:
    assert 0 < spreading(stripes, paths) <= 1


def naive_Bps(fabric: Fabric, left_Bps: np.ndarray, source: int, target: int, stripes: int) -> float:
    """The definition: the least of the two ends and, from tier 2 up, of what the ways between two ToRs carry together.

    Across pods several ways share a ToR's link to one aggregation, so they are held to what those links carry as well.
    """
    paths = fabric.paths(source, target)
    if fabric.tier(source, target) < 2:
        return float(min(left_Bps[link] for link in paths[0]))
    ends = min(left_Bps[link] for link in (*paths[0][:2], *paths[0][-2:]))
    ways = [path[2:-2] for path in paths]
    by_aggregation = {(way[0], way[-1]) for way in ways}
    return float(min(ends, joint_Bps(ways, left_Bps, stripes), joint_Bps(by_aggregation, left_Bps, stripes)))


def joint_Bps(ways: Collection[tuple[int, ...]], left_Bps: np.ndarray, stripes: int) -> float:
    return float(sum(min(left_Bps[link] for link in way) for way in ways)) * spreading(stripes, len(ways))


@st.composite
def fabrics(draw: st.DrawFn) -> FabricSpec:
    return FabricSpec(
        pods=draw(st.integers(1, 3)),
        racks_per_pod=draw(st.integers(1, 3)),
        servers_per_rack=draw(st.integers(1, 3)),
        aggregations_per_pod=draw(st.integers(1, 3)),
        cores_per_group=draw(st.integers(1, 3)),
        tor_oversubscription=draw(st.floats(1, 4)),
        aggregation_oversubscription=draw(st.floats(1, 4)),
    )


@settings(max_examples=60)
@given(
    spec=fabrics(), placement=st.sampled_from(sorted(PLACEMENTS)), stripes=st.integers(1, 8), seed=st.integers(0, 99)
)
def test_the_bottleneck_is_that_of_a_walk_over_every_path(
    spec: FabricSpec, placement: str, stripes: int, seed: int
) -> None:
    fabric = build_fattree(spec)
    try:
        roles = place(fabric, placement)
    except FabricError:
        return  # this fabric has no such placement
    table = LinkTable(fabric, roles)
    left_Bps = table.capacity_Bps * np.random.default_rng(seed).choice([0.0, 0.1, 0.5, 1.0], len(fabric.links))
    for prefill in roles.prefill:
        found = table.bottleneck(left_Bps, prefill, stripes)
        naive = [naive_Bps(fabric, left_Bps, prefill, decode, stripes) for decode in roles.decode]
        np.testing.assert_allclose(found, naive, rtol=1e-12)


def test_cores_behind_one_congested_aggregation_do_not_add_up() -> None:
    """With every ToR uplink of the source at 1 Gbit/s and all cores idle, across pods gets no more than within one."""
    fabric = build_fattree(FabricSpec(cores_per_group=8))
    table = LinkTable(fabric, place(fabric))
    left_Bps = table.capacity_Bps.copy()
    left_Bps[table.up_rack[0]] = 1e9 / 8
    found_Bps = dict(zip(table.tier[0].tolist(), table.bottleneck(left_Bps, 0, 4).tolist(), strict=True))
    assert found_Bps[2] == pytest.approx(2e9 / 8 * 4 / 5.5)
    assert found_Bps[3] == found_Bps[2]


@settings(max_examples=30)
@given(spec=fabrics(), data=st.data())
def test_a_transfers_shares_of_the_links_conserve_its_bytes(spec: FabricSpec, data: st.DataObject) -> None:
    fabric = build_fattree(spec)
    ends = st.sampled_from(range(len(fabric.instances)))
    source, target = data.draw(st.tuples(ends, ends))
    if source == target:
        return
    roles = place(fabric, "colocated")
    links, share = LinkTable(fabric, roles).shares(source, target)
    carried = dict(zip(links.tolist(), share.tolist(), strict=True))
    for node in {fabric.links[link].source for link in carried} - {f"h{source}"}:
        into = sum(part for link, part in carried.items() if fabric.links[link].target == node)
        out_of = sum(part for link, part in carried.items() if fabric.links[link].source == node)
        assert into == pytest.approx(out_of)
    assert sum(part for link, part in carried.items() if fabric.links[link].source == f"h{source}") == 1


def test_transfers_in_flight_leave_no_trace_once_they_stop() -> None:
    fabric = build_fattree(FabricSpec())
    in_flight = InFlight(LinkTable(fabric, place(fabric)))
    for request_id, decode in enumerate((2, 7, 11, 15)):
        in_flight.start(request_id, 0, decode, 1e9 / 3)
    assert in_flight.count[fabric.link_by_name["h0>srv0"].index] == 4
    assert in_flight.count[fabric.link_by_name["agg0>core0"].index] == pytest.approx(2 / 4)
    for request_id in (2, 0, 3, 1):
        in_flight.stop(request_id)
    assert len(in_flight) == 0
    assert not in_flight.count.any()
