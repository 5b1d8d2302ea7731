"""Kept connections in the fluid: a pair of instances keeps its paths, whatever its transfers are called."""

import pytest

from simulator.path_choice import KeptConnections, PathChoice
from simulator.transport import FluidTransport
from topologies import FabricSpec, build_fattree


def test_the_lowest_idle_bundle_of_a_pair_is_taken_and_pairs_differ() -> None:
    kept = KeptConnections(instances=16)
    first, second, other = kept.take(0, 1, 9), kept.take(1, 1, 9), kept.take(2, 9, 1)
    assert len({first, second, other}) == 3
    kept.give_back(0)
    assert kept.take(3, 1, 9) == first
    kept.give_back(1)
    kept.give_back(3)
    assert [kept.take(4, 1, 9), kept.take(5, 1, 9)] == [first, second]


@pytest.mark.parametrize(("kept", "ways"), [(True, 1), (False, 4)])
def test_one_transfer_after_another_takes_the_same_paths_only_if_connections_are_kept(kept: bool, ways: int) -> None:
    fabric = build_fattree(FabricSpec())
    transport = FluidTransport(fabric, PathChoice(0, "hashed"), kept)
    taken = set()
    for request_id in range(40):
        transport.start_transfer(request_id, 0, 15, 1e9, 1)
        taken.add(tuple(transport.link_rate_Bps().nonzero()[0]))
        (delivery,) = transport.advance(transport.next_delivery_s())
        assert delivery.request_id == request_id
    assert len(taken) == ways
