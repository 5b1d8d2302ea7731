"""Persistent connections between real workers over loopback: reused, never shared, replaced when lost."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.workers_driver import Event, Worker
from workers.connections import ConnectionPool
from workers.inbound import HEADER_DEADLINE_S, Receiver
from workers.loop import Loop
from workers.streams import StreamOptions

pytestmark = pytest.mark.xdist_group("workers")

DECODE = ("--step-table", "1:0.001", "--kv-memory-tokens", "1000", "--batch-slots", "8")
STRIPES = 4


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Worker, Worker]]:
    keep = Worker(tmp_path, "prefill", "h0", "--persistent-connections")
    with keep as prefill, Worker(tmp_path, "decode", "h3", *DECODE) as decode:
        yield prefill, decode


def start(pair: tuple[Worker, Worker], request_id: int, size: int = 50_000) -> None:
    prefill, decode = pair
    moved = {"request_id": request_id, "bytes": size, "stripes": STRIPES}
    decode.tell("expect", **moved, context_tokens=10, output_tokens=1)
    prefill.tell("transfer", **moved, address=decode.address, deadline_s=60)


def end(pair: tuple[Worker, Worker], request_id: int) -> Event:
    prefill, decode = pair
    decode.wait_for("finished", request_id=request_id)
    return prefill.wait_for("transferred", request_id=request_id)


def move(pair: tuple[Worker, Worker], request_id: int, size: int = 50_000) -> Event:
    start(pair, request_id, size)
    return end(pair, request_id)


def test_one_transfer_after_another_takes_the_same_connections(pair: tuple[Worker, Worker]) -> None:
    ports = [move(pair, request_id, size)["source_ports"] for request_id, size in enumerate([50_000, 3, 1_000_001])]
    assert ports[0] == ports[1] == ports[2]
    assert len(set(ports[0])) == STRIPES


def test_retransmissions_are_those_of_the_transfer_alone(pair: tuple[Worker, Worker]) -> None:
    sent = [move(pair, request_id)["retransmitted"] for request_id in range(3)]
    assert sent == [[0] * STRIPES] * 3


def test_connections_that_were_opened_ahead_are_taken(pair: tuple[Worker, Worker]) -> None:
    prefill, decode = pair
    prefill.tell("connect", addresses=[list(decode.address)], stripes=STRIPES)
    prefill.wait_for("connected")
    open_files = Path(f"/proc/{prefill.first['pid']}/fd")
    before = len(list(open_files.iterdir()))
    move(pair, 0)
    assert len(list(open_files.iterdir())) == before


def test_two_at_once_do_not_share_and_both_persist(pair: tuple[Worker, Worker]) -> None:
    prefill, decode = pair
    open_files = Path(f"/proc/{prefill.first['pid']}/fd")
    before, deadline_s = len(list(open_files.iterdir())), time.monotonic() + 60
    os.kill(decode.first["pid"], signal.SIGSTOP)  # so that the first is not over when the second begins
    start(pair, 0, 80_000_000)
    start(pair, 1, 80_000_000)
    while len(list(open_files.iterdir())) < before + 2 * STRIPES and time.monotonic() < deadline_s:
        time.sleep(0.01)
    os.kill(decode.first["pid"], signal.SIGCONT)
    ports = [end(pair, request_id)["source_ports"] for request_id in (0, 1)]
    assert not set(ports[0]) & set(ports[1])
    assert move(pair, 2)["source_ports"] == ports[0]


def test_a_restarted_peer_gets_new_connections(tmp_path: Path) -> None:
    with Worker(tmp_path, "prefill", "h0", "--persistent-connections") as prefill:
        with Worker(tmp_path, "decode", "h3", *DECODE) as decode:
            ports = move((prefill, decode), 0)["source_ports"]
            address = decode.address
        prefill.tell("transfer", request_id=1, bytes=1000, stripes=STRIPES, address=address, deadline_s=60)
        prefill.wait_for("transfer_failed", request_id=1)
        again = ("--port", str(address[1]))
        with Worker(tmp_path, "decode", "h3", *DECODE, *again) as decode:
            assert not set(move((prefill, decode), 2)["source_ports"]) & set(ports)


def test_nobody_to_connect_with_is_one_clear_line(pair: tuple[Worker, Worker]) -> None:
    prefill, _ = pair
    with closing(socket.create_server(("127.0.0.1", 0))) as unused:
        host, port = unused.getsockname()
    prefill.tell("connect", addresses=[[host, port]], stripes=STRIPES)
    assert prefill.wait_for("connect_failed")["error"] == f"cannot connect to {host}:{port}: Connection refused"


def test_an_idle_persistent_connection_sends_keepalives() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        for keep in (True, False):
            (sock,) = ConnectionPool(Loop(), StreamOptions(), keep).take(server.getsockname(), 1).sockets
            with sock:
                assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is keep
                assert not keep or sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < 10


def test_a_paced_stream_is_no_faster_than_its_pace(tmp_path: Path) -> None:
    with (
        Worker(tmp_path, "prefill", "h0", "--pace-bps", "40e6") as prefill,
        Worker(tmp_path, "decode", "h3", *DECODE) as decode,
    ):
        sent = move((prefill, decode), 0, 20_000_000)
        bits_a_s = 20_000_000 * 8 / (sent["at_s"] - sent["started_s"])
    assert bits_a_s < 1.25 * STRIPES * 40e6  # the first window is not paced


def test_new_connections_are_closed_when_they_are_given_back() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        connections = ConnectionPool(Loop(), StreamOptions(), persistent=False)
        bundle = connections.take(server.getsockname(), 2)
        connections.give_back(bundle)
        assert [sock.fileno() for sock in bundle.sockets] == [-1, -1]
        assert connections.take(server.getsockname(), 2).slot == 1


def test_a_connection_opened_ahead_may_wait_for_its_first_blob_but_a_header_may_not_stop_halfway() -> None:
    ahead_s = 0.0
    errors: list[str] = []
    loop = Loop(lambda: time.monotonic() + ahead_s)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        Receiver(loop, listener, lambda *_: None, lambda error, *_: errors.append(error))
        address = listener.getsockname()
        with socket.create_connection(address) as silent, socket.create_connection(address) as halting:
            halting.send(b"K")
            for _ in range(3):
                loop.call_at(loop.clock() + 0.05, loop.stop)
                loop.run()
                ahead_s += 2 * HEADER_DEADLINE_S
            assert errors == [f"nothing arrived for {HEADER_DEADLINE_S:g} s"]
            assert halting.recv(1)
            silent.setblocking(False)
            with pytest.raises(BlockingIOError):
                silent.recv(1)
