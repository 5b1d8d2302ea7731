"""Source ports that runs of one seed have in common."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from workers.connections import ConnectionPool
from workers.loop import Loop
from workers.streams import FIRST_PORT, StreamOptions, source_port

pytestmark = pytest.mark.xdist_group("workers")

HERE = "127.83.0.1"
"""A loopback address of these tests alone: on 127.0.0.1 a port may be taken by any other process."""


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server((HERE, 0), backlog=64) as listening:
        yield listening


def ports(address: tuple[str, int], seed: int, slot: int) -> list[int]:
    streams = [StreamOptions(HERE, port_seed=seed).connect(address, slot, stripe) for stripe in range(4)]
    found = [stream.getsockname()[1] for stream in streams]
    for stream in streams:
        stream.close()
    return found


def test_a_stream_has_the_port_that_its_name_gives(server: socket.socket) -> None:
    address = server.getsockname()
    assert ports(address, 7, 0) == [source_port(7, HERE, address, 0, stripe, 0) for stripe in range(4)]
    assert len({*ports(address, 7, 1), *ports(address, 8, 1)}) == 8


def test_a_port_that_is_taken_gives_way_to_the_next_of_the_same_name(server: socket.socket) -> None:
    address = server.getsockname()
    options = StreamOptions(HERE, port_seed=3)
    with closing(options.connect(address, 0, 0)) as first, closing(options.connect(address, 0, 0)) as second:
        taken = [stream.getsockname()[1] for stream in (first, second)]
    assert taken == [source_port(3, HERE, address, 0, 0, attempt) for attempt in (0, 1)]


def test_bundles_to_one_address_are_told_apart(server: socket.socket) -> None:
    pool = ConnectionPool(Loop(), StreamOptions(HERE, port_seed=5), persistent=True)
    bundles = [pool.take(server.getsockname(), 2) for _ in range(2)]
    found = [sock.getsockname()[1] for bundle in bundles for sock in bundle.sockets]
    address = server.getsockname()
    assert found == [source_port(5, HERE, address, slot, stripe, 0) for slot in (0, 1) for stripe in (0, 1)]
    for bundle in bundles:
        for sock in bundle.sockets:
            sock.close()


def test_ports_are_above_those_of_services_and_spread() -> None:
    found = [source_port(0, HERE, (HERE, 7001), slot, stripe, 0) for slot in range(500) for stripe in range(4)]
    assert FIRST_PORT <= min(found) < FIRST_PORT + 500
    assert 65_000 < max(found) < 65_536
    assert len(set(found)) > 1900
