"""What a transfer can get on a fabric: the vectorised tables beside a walk over every path."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenario import link_tiers
from scheduler.in_flight import InFlight
from scheduler.link_table import LinkTable, spreading
from tests.support.path_bandwidth import bottleneck_Bps
from topologies import PLACEMENTS, FabricError, FabricSpec, build_fattree, place


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


def available_Bps(table: LinkTable, left_Bps: np.ndarray, prefill: int, stripes: int) -> np.ndarray:
    """What is available where every link has `left_Bps` and no competitor takes a share of it."""
    nothing = np.zeros(len(left_Bps))
    return table.available(prefill, stripes, table.capacity_Bps - left_Bps, nothing, competitors=np.inf)


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
        found = available_Bps(table, left_Bps, prefill, stripes)
        naive = [bottleneck_Bps(fabric, left_Bps, prefill, decode, stripes) for decode in roles.decode]
        np.testing.assert_allclose(found, naive, rtol=1e-12)


def test_cores_behind_one_congested_aggregation_do_not_add_up() -> None:
    """With every ToR uplink of the source at 1 Gbit/s and all cores idle, across pods gets no more than within one."""
    fabric = build_fattree(FabricSpec(cores_per_group=8))
    table = LinkTable(fabric, place(fabric))
    left_Bps = table.capacity_Bps.copy()
    for uplink in fabric.links_from["tor0"]:
        if uplink.target.startswith("agg"):
            left_Bps[uplink.index] = 1e9 / 8
    found_Bps = dict(zip(table.tier[0].tolist(), available_Bps(table, left_Bps, 0, 4).tolist(), strict=True))
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
    shares = np.zeros(len(fabric.links))
    LinkTable(fabric, roles).book(shares, 1.0, source, target)
    carried = {int(link): float(shares[link]) for link in shares.nonzero()[0]}
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


def test_every_link_has_the_level_of_its_upper_switch() -> None:
    fabric = build_fattree(FabricSpec())
    assert LinkTable(fabric, place(fabric)).link_level.tolist() == link_tiers(fabric).tolist()
