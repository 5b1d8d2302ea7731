"""Streams that meet at a port have queues of their own, as far as there are enough."""

import itertools
import socket

import pytest

from testbed.worker_pool import kv_and_all_queues
from topologies import FabricSpec, build_fattree, fair_queue, instance_ip, place
from workers.fair_queues import FairQueues
from workers.streams import StreamOptions, queues_of

PLACES = itertools.product(range(2), repeat=4)
HOSTS = tuple(f"10.{pod}.{rack}.{server * 16 + slot + 1}" for pod, rack, server, slot in PLACES)
KV_QUEUES, QUEUES = kv_and_all_queues(len(HOSTS))
KV = FairQueues(0, KV_QUEUES, QUEUES, HOSTS, HOSTS)
BACKGROUND = FairQueues(KV_QUEUES, QUEUES - KV_QUEUES, QUEUES)


@pytest.mark.parametrize("stripes", [1, 4])
def test_nothing_that_one_host_sends_or_gets_shares_a_queue(stripes: int) -> None:
    """Sixteen hosts and four stripes: as many streams at a host's link as there are queues."""
    for end in range(16):
        for sent in (True, False):
            pairs = [(HOSTS[end], other) if sent else (other, HOSTS[end]) for other in HOSTS]
            used = {KV.wanted(*pair, 0, stripe) for pair in pairs for stripe in range(stripes)}
            assert len(used) == 16 * stripes
            assert used <= set(range(KV_QUEUES))


@pytest.mark.parametrize("stripes", [1, 4])
@pytest.mark.parametrize(
    ("placement", "first", "second"),
    [("segregated", 0, 20), ("colocated", 0, 12), ("racks", 0, 64), ("first_rack", 3, 48)],
)
def test_few_bundles_that_have_a_link_in_common_share_a_queue(
    placement: str, first: int, second: int, stripes: int
) -> None:
    """First bundles of two pairs, and the first of one with the second of another; the latter never, where a bundle is
    one stream."""
    fabric = build_fattree(FabricSpec())
    addresses = tuple(instance_ip(instance) for instance in fabric.instances)
    roles = place(fabric, placement)
    ends = (tuple(addresses[end] for end in role) for role in (roles.prefill, roles.decode))
    queues = FairQueues(0, KV_QUEUES, QUEUES, *ends)
    pairs = [*itertools.product(roles.prefill, roles.decode)]
    links = {pair: frozenset(itertools.chain(*fabric.paths(*pair))) for pair in pairs}
    bundles = [
        {
            pair: {queues.wanted(*(addresses[end] for end in pair), slot, stripe) for stripe in range(stripes)}
            for pair in pairs
        }
        for slot in (0, 1)
    ]
    beside = [(a, b) for a, b in itertools.product(pairs, pairs) if links[a] & links[b]]
    assert sum(a < b and bool(bundles[0][a] & bundles[0][b]) for a, b in beside) == first
    assert sum(bool(bundles[0][a] & bundles[1][b]) for a, b in beside) == (second if stripes == 4 else 0)


def test_a_wide_bundle_and_a_second_one_of_the_same_pair_share_none() -> None:
    used = [KV.wanted(HOSTS[3], HOSTS[9], slot, stripe) for slot, stripe in itertools.product(range(2), range(8))]
    assert len(set(used)) == len(used)


@pytest.mark.parametrize("first_flow", [0, 5, 1000])
def test_flows_that_follow_each_other_share_none_with_each_other_or_with_kv(first_flow: int) -> None:
    flows = range(first_flow, first_flow + 12)
    used = [BACKGROUND.wanted(None, HOSTS[flow % 16], flow, stripe) for flow in flows for stripe in range(4)]
    assert len(set(used)) == len(used)
    assert min(used) >= KV_QUEUES
    assert max(used) < QUEUES


@pytest.mark.parametrize("first_flow", [0, 5, 1000])
def test_eight_flows_of_eight_connections_share_none(first_flow: int) -> None:
    flows = range(first_flow, first_flow + 8)
    used = [BACKGROUND.wanted(None, HOSTS[flow % 16], flow, stripe) for flow in flows for stripe in range(8)]
    assert len(set(used)) == len(used) == QUEUES - KV_QUEUES


def test_hosts_that_are_not_known_are_no_error() -> None:
    assert 0 <= KV.wanted("10.9.9.9", "10.8.8.8", 7, 3) < KV_QUEUES


def test_the_port_of_a_stream_has_the_queue_that_it_should_have() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        options = StreamOptions("127.0.0.1", port_seed=11, queues=KV)
        streams = [options.connect(address, 2, stripe) for stripe in range(4)]
        other = StreamOptions("127.0.0.1", port_seed=12, queues=KV)
        again = [next(other._ports(address, 2, stripe)) for stripe in range(4)]
        try:
            ports = [stream.getsockname()[1] for stream in streams]
        finally:
            for stream in streams:
                stream.close()
    for stripe, port in enumerate(ports):
        assert fair_queue("127.0.0.1", "127.0.0.1", port, address[1]) == KV.wanted("127.0.0.1", "127.0.0.1", 2, stripe)
    assert ports != again  # of another seed; one of four may be the same by chance


def test_the_option_of_a_worker() -> None:
    assert queues_of("0:64:128") == FairQueues(0, 64, 128)
    ends = ("10.0.0.1", "10.0.0.2"), ("10.0.0.3",)
    assert queues_of("64:64:128:10.0.0.1,10.0.0.2:10.0.0.3") == FairQueues(64, 64, 128, *ends)
    with pytest.raises(ValueError, match="unpack"):
        queues_of("64:64")
