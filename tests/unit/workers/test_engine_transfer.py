"""Transfers through an engine, between a real sender and receiver of one loop over loopback; the engine is made here.

It copies memory when it is asked after a write, or holds, loses or spoils it: what the package itself does is
`tests/optional/routers/test_mooncake.py`'s.
"""

from __future__ import annotations

import ctypes
import mmap
import socket
import threading
import time
from collections.abc import Callable

import pytest

from workers.engine_receiver import ZONE_SLOTS, EngineReceiver
from workers.engine_sender import OWN_SLOTS, EngineSender, memory_bytes
from workers.loop import Loop
from workers.mooncake_engine import HEADER_BYTES, Lane, Write
from workers.outbound import Sent
from workers.piece_writer import WARM_BYTES
from workers.pieces import content_of
from workers.streams import ConnectionState, StreamOptions

pytestmark = pytest.mark.xdist_group("workers")

SLOT = 2 * WARM_BYTES
PATIENCE_S = 30.0


class MadeEngine:
    """Memory, and writes that end when they are asked after, unless they are held; `fails` lets further ones fail."""

    def __init__(self, size: int) -> None:
        pages = mmap.mmap(-1, size)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        self.memory = memoryview(pages)
        self.rpc_port = 15_000
        self.fails = self.spoils = False
        self.held = threading.Event()
        self.held.set()
        self.writes: list[Write] = []
        self._submitting = threading.Lock()
        self._ended: set[int] = set()

    def submit(self, segment: str, writes: list[Write]) -> list[int]:
        assert segment == "127.0.0.1:15000"
        assert all(self.base <= one.local <= one.local + one.size <= self.base + len(self.memory) for one in writes)
        with self._submitting:
            self.writes += writes
            return [0 if self.fails else len(self.writes) - back for back in reversed(range(len(writes)))]

    def check(self, handle: int) -> int:
        assert handle not in self._ended, "a handle that has ended is gone"
        if not self.held.is_set():
            return 0
        write = self.writes[handle - 1]
        ctypes.memmove(write.remote, write.local, write.size)
        if self.spoils:
            ctypes.memset(write.remote, 0, 1)
        self._ended.add(handle)
        return 1

    def quiet(self) -> bool:
        """Whether all writes have ended."""
        return len(self._ended) == len(self.writes)

    def lanes(self, host: str, but: tuple[int, ...]) -> list[Lane]:
        assert (host, but[1]) == ("127.0.0.1", 15_000)
        return [Lane(40_000 + number, 16_000, ConnectionState(len(self._ended), 0.001)) for number in range(4)]


class Bed:
    """One prefill and one decode end, and what they have said."""

    def __init__(self, zones: int = 1) -> None:
        self.loop = Loop()
        self.engine = MadeEngine(memory_bytes(SLOT))
        self.far = MadeEngine(zones * ZONE_SLOTS * SLOT)
        self.sender = EngineSender(self.loop, self.engine, StreamOptions("127.0.0.1"), SLOT, 4)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.received: dict[int, int] = {}
        self.sent: dict[int, Sent] = {}
        self.failed: dict[int, str] = {}
        self.errors: list[str] = []
        self.receiver = EngineReceiver(
            self.loop,
            self.listener,
            self.far,
            SLOT,
            zones,
            lambda request_id, _first_s, _at_s, total_bytes: self.received.update({request_id: total_bytes}),
            lambda error, request_id, peer: self.errors.append(error),
        )

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.listener.getsockname()
        return host, port

    def send(self, request_id: int, size: int, deadline_s: float = 60.0) -> None:
        def done(sent: Sent) -> None:
            self.sent[request_id] = sent

        def failed(error: str) -> None:
            self.failed[request_id] = error

        self.receiver.expect(request_id, size, 4)
        self.sender.send(request_id, self.address, size, 4, deadline_s, done, failed)

    def until(self, reached: Callable[[], bool]) -> None:
        until_s = time.monotonic() + PATIENCE_S

        def look() -> None:
            if reached() or time.monotonic() > until_s:
                self.loop.stop()
            else:
                self.loop.call_at(self.loop.clock() + 0.001, look)

        self.loop.call_at(self.loop.clock(), look)
        self.loop.run()
        assert reached(), (self.sent, self.failed, self.received, self.errors)

    def over(self, *request_ids: int) -> Callable[[], bool]:
        """Either end may be the first to know that all has arrived."""
        return lambda: all((one in self.sent and one in self.received) or one in self.failed for one in request_ids)

    def blob_writes(self) -> list[Write]:
        return [write for write in self.engine.writes if write.local < self.engine.base + OWN_SLOTS * SLOT]


@pytest.fixture
def bed() -> Bed:
    return Bed()


def test_a_blob_is_there_when_both_ends_say_so(bed: Bed) -> None:
    bed.send(7, 50_000)
    bed.until(bed.over(7))
    assert bed.received == {7: 50_000}
    assert bytes(bed.far.memory[:50_000]) == content_of(7, 0, 50_000)
    sent = bed.sent[7]
    assert sent.source_ports == [40_000, 40_001, 40_002, 40_003]
    assert (sent.target_port, sent.wire_bytes) == (16_000, 50_000 + 4 * HEADER_BYTES)
    assert sent.retransmitted == [4] * 4  # since the piece began: the lanes here count one a write that has ended
    assert [write.size for write in bed.blob_writes()] == [12_500] * 4


@pytest.mark.parametrize("size", [1, 3, SLOT, SLOT + 1, 9 * SLOT + 5])
def test_a_blob_of_any_size_loses_no_byte_in_slots_that_are_used_again(bed: Bed, size: int) -> None:
    bed.send(1, size)
    bed.until(bed.over(1))
    assert bed.received == {1: size}
    assert sum(write.size for write in bed.blob_writes()) == size
    assert all(
        bed.far.base <= w.remote <= w.remote + w.size <= bed.far.base + ZONE_SLOTS * SLOT for w in bed.engine.writes
    )
    assert bed.sent[1].wire_bytes == size + len(bed.blob_writes()) * HEADER_BYTES


def test_the_connections_are_warm_before_the_first_blob(bed: Bed) -> None:
    ready: list[str] = []
    bed.sender.open([bed.address], 4, lambda: ready.append("ready"), ready.append)
    bed.until(lambda: bool(ready))
    assert ready == ["ready"]
    warm = len(bed.engine.writes)
    assert warm >= 8
    bed.send(1, 100)
    bed.until(bed.over(1))
    assert len(bed.engine.writes) == warm + 4


def test_bytes_that_are_not_those_that_were_sent_are_refused_at_both_ends(bed: Bed) -> None:
    bed.engine.spoils = True
    bed.send(5, 1000)
    bed.until(bed.over(5))
    assert bed.failed == {5: "piece 0 of 1: refused by the receiver: broken"}
    assert bed.received == {}
    assert [error.startswith("piece 0 of 1: checksum ") for error in bed.errors] == [True]
    bed.engine.spoils = False
    bed.send(6, 1000)
    bed.until(bed.over(6))
    assert bed.received == {6: 1000}


def test_a_write_that_fails_fails_its_transfer_and_the_next_one_is_sent(bed: Bed) -> None:
    bed.send(1, 10)
    bed.until(bed.over(1))
    bed.engine.fails = True
    bed.send(2, 10_000)
    bed.until(bed.over(2))
    assert bed.failed == {2: "piece 0 of 1: the engine failed 4 of 4 writes"}
    bed.engine.fails = False
    bed.send(3, 10_000)
    bed.until(bed.over(3))
    assert bed.received == {1: 10, 3: 10_000}


def test_an_engine_that_does_not_reach_its_peer_says_so_before_the_first_transfer(bed: Bed) -> None:
    bed.engine.fails = True
    said: list[str] = []
    bed.sender.open([bed.address], 4, lambda: said.append("ready"), said.append)
    bed.send(1, 10)
    bed.until(lambda: bool(said) and 1 in bed.failed)
    wanted = f"control stream to 127.0.0.1:{bed.address[1]}: the engine does not reach its peer"
    assert said == [wanted]
    assert bed.failed == {1: wanted}


def test_a_receiver_that_ends_fails_what_is_under_way_and_a_new_one_is_found(bed: Bed) -> None:
    bed.send(1, 10)
    bed.until(bed.over(1))
    bed.engine.held.clear()
    bed.send(2, 10_000)
    bed.until(lambda: len(bed.blob_writes()) == 8)
    address = bed.address
    for stream in list(bed.loop._callbacks.values()):
        if (owner := getattr(stream, "__self__", None)) is not None and type(owner).__name__ == "ControlStream":
            owner._close()
    bed.until(bed.over(2))
    assert bed.failed == {2: f"control stream to 127.0.0.1:{address[1]}: closed by the receiver"}
    bed.engine.held.set()
    bed.until(bed.engine.quiet)  # a write of the second into the slot of the third would spoil it
    bed.send(3, 10_000)
    bed.until(bed.over(3))
    assert bed.received == {1: 10, 3: 10_000}


def test_nobody_at_the_address_is_a_failure_with_its_reason(bed: Bed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = gone.getsockname()
    failed: list[str] = []
    bed.sender.send(1, address, 10, 4, 60.0, lambda _: failed.append("done"), failed.append)
    bed.until(lambda: bool(failed))
    assert failed == [f"control stream to 127.0.0.1:{address[1]}: Connection refused"]


def test_a_slot_is_left_alone_until_the_engine_has_let_go_of_it(bed: Bed) -> None:
    bed.send(1, 10)
    bed.until(bed.over(1))
    bed.engine.held.clear()
    bed.send(2, SLOT, deadline_s=0.05)
    bed.until(bed.over(2))
    assert bed.failed == {2: "deadline of 0.05 s passed"}
    held = {(write.local, write.remote) for write in bed.blob_writes()[-4:]}
    bed.send(3, SLOT)
    bed.until(lambda: len(bed.blob_writes()) == 4 + 4 + 4)
    assert not held & {(write.local, write.remote) for write in bed.blob_writes()[-4:]}
    bed.engine.held.set()
    bed.until(bed.over(3))
    assert bed.received == {1: 10, 3: SLOT}
    assert bed.errors == []


def test_more_pieces_than_slots_wait_for_them_in_order(bed: Bed) -> None:
    for request_id in range(3 * ZONE_SLOTS):
        bed.send(request_id, SLOT)
    bed.until(bed.over(*range(3 * ZONE_SLOTS)))
    assert bed.failed == {}
    assert bed.received == dict.fromkeys(range(3 * ZONE_SLOTS), SLOT)
    assert len({write.remote for write in bed.blob_writes()}) <= 4 * ZONE_SLOTS


def test_a_request_that_was_cancelled_is_refused(bed: Bed) -> None:
    bed.engine.held.clear()
    bed.send(4, 100)
    bed.receiver.refuse(4)
    bed.engine.held.set()
    bed.until(bed.over(4))
    assert bed.failed == {4: "piece 0 of 1: refused by the receiver: refused"}
    assert (bed.received, bed.errors) == ({}, [])


def test_a_blob_of_another_size_than_was_announced_is_refused(bed: Bed) -> None:
    bed.send(4, 100)
    bed.receiver.expect(4, 101, 4)
    bed.until(bed.over(4))
    assert bed.failed == {4: "piece 0 of 1: refused by the receiver: unexpected"}
    assert bed.errors == ["100 bytes arrived, 101 bytes were expected"]


def test_a_prefill_worker_without_a_zone_is_turned_away(bed: Bed) -> None:
    bed.send(1, 10)
    bed.until(bed.over(1))
    other = EngineSender(bed.loop, MadeEngine(memory_bytes(SLOT)), StreamOptions("127.0.0.1"), SLOT, 4)
    said: list[str] = []
    other.open([bed.address], 4, lambda: said.append("ready"), said.append)
    bed.until(lambda: bool(said))
    assert said == [f"control stream to 127.0.0.1:{bed.address[1]}: closed by the receiver"]
    assert bed.errors == ["no zone is left for a further control stream"]


def test_what_is_no_notice_ends_the_control_stream(bed: Bed) -> None:
    with socket.create_connection(bed.address) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: decode\r\nAccept: anything\r\n\r\n")
        bed.until(lambda: bool(bed.errors))
    assert bed.errors[0].startswith("not a notice of version 1")
    bed.send(1, 10)
    bed.until(bed.over(1))
    assert bed.received == {1: 10}
