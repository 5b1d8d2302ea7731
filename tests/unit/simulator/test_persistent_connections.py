"""Persistent connections in the fluid model: a pair of instances keeps its paths, whatever its requests' numbers."""

import pytest

from simulator.path_choice import PathChoice, PersistentConnections
from simulator.transport import FluidTransport
from topologies import FabricSpec, build_fattree


def test_the_lowest_idle_bundle_of_a_pair_is_taken_and_pairs_differ() -> None:
    connections = PersistentConnections(instances=16)
    first, second, other = connections.take(0, 1, 9), connections.take(1, 1, 9), connections.take(2, 9, 1)
    assert len({first, second, other}) == 3
    connections.give_back(0)
    assert connections.take(3, 1, 9) == first
    connections.give_back(1)
    connections.give_back(3)
    assert [connections.take(4, 1, 9), connections.take(5, 1, 9)] == [first, second]


@pytest.mark.parametrize(("persistent", "ways"), [(True, 1), (False, 4)])
def test_successive_transfers_share_their_paths_only_on_persistent_connections(persistent: bool, ways: int) -> None:
    fabric = build_fattree(FabricSpec())
    transport = FluidTransport(fabric, PathChoice(0, "hashed"), persistent)
    taken = set()
    for request_id in range(40):
        transport.start_transfer(request_id, 0, 15, 1e9, 1)
        taken.add(tuple(transport.link_rate_Bps().nonzero()[0]))
        (delivery,) = transport.advance(transport.next_delivery_s())
        assert delivery.request_id == request_id
    assert len(taken) == ways
