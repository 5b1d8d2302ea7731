"""The receiving end of KV transfers through a transfer engine: lends memory, checks what was written to it, answers.

Owns the control streams from prefill workers, their zones and the blobs that arrive; the decode worker decides what
follows. The engine writes without a word: a blob is there when a notice says so and the checksum holds.
"""

from __future__ import annotations

import socket
import zlib
from typing import TYPE_CHECKING

from workers import wire
from workers.inbound import IDLE_DEADLINE_S, UNCLAIMED_MOST
from workers.loop import READABLE, WRITABLE, Loop
from workers.pieces import NOTICE_BYTES, Notice, SlotPool, Welcome, pack_welcome, unpack_notice
from workers.streams import keep_alive
from workers.wire import Ack, StripeStatus, WireError

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.mooncake_engine import Engine

ZONE_SLOTS = 4
"""Pieces from one prefill worker that are under way at once; the next ones wait there."""


def memory_bytes(slot_bytes: int, zones: int) -> int:
    """The memory that a receiver needs of its engine."""
    return zones * ZONE_SLOTS * slot_bytes


class EngineArrival:
    """One request's blob: which of its pieces have arrived."""

    def __init__(self, notice: Notice, first_s: float) -> None:
        self.total_bytes = notice.total_bytes
        self.pieces = notice.pieces
        self.first_s = first_s
        self.done: set[int] = set()


class EngineReceiver:
    """Welcome prefill workers on a listening socket, each to a zone of its own, and report whole blobs.

    `first_byte_s` of `on_received` is the first notice's time: nobody here sees bytes arrive.
    """

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        engine: Engine,
        slot_bytes: int,
        zones: int,
        on_received: Callable[[int, float, float, int], None],
        on_error: Callable[[str, int | None, str], None],
    ) -> None:
        self.loop = loop
        self.engine = engine
        self.slot_bytes = slot_bytes
        self.on_error = on_error
        self.zones = SlotPool(zones)
        self._listener = listener
        self._on_received = on_received
        self._arrivals: dict[int, EngineArrival] = {}
        self._expected: dict[int, int] = {}  # total bytes
        self._refused: set[int] = set()
        loop.watch(listener, READABLE, self._on_connection)

    def expect(self, request_id: int, total_bytes: int, stripes: int) -> None:
        """As `inbound.BlobReceiver`."""
        self._refused.discard(request_id)
        self._expected[request_id] = total_bytes
        arrival = self._arrivals.get(request_id)
        if arrival is not None and arrival.total_bytes != total_bytes:
            self.on_error(_mismatch(arrival.total_bytes, total_bytes), request_id, "")
            del self._arrivals[request_id]

    def refuse(self, request_id: int) -> None:
        """As `inbound.BlobReceiver`."""
        self._refused.add(request_id)
        self.forget(request_id)

    def forget(self, request_id: int) -> None:
        """As `inbound.BlobReceiver`."""
        self._expected.pop(request_id, None)
        self._arrivals.pop(request_id, None)

    def holds(self, request_id: int) -> bool:
        """As `inbound.BlobReceiver`."""
        return request_id in self._arrivals

    def arrived(self, notice: Notice, checksum: int, peer: str) -> StripeStatus:
        """A piece is said to be in its slot, where this checksum was found; the answer to its sender."""
        request_id = notice.request_id
        if request_id in self._refused:
            return StripeStatus.REFUSED  # the driver requested that
        if checksum != notice.checksum:
            error = f"piece {notice.piece} of {notice.pieces}: checksum {checksum:08x}, sent {notice.checksum:08x}"
            return self._refusal(error, notice, peer, StripeStatus.BROKEN)
        expected = self._expected.get(request_id, notice.total_bytes)
        if expected != notice.total_bytes:
            return self._refusal(_mismatch(notice.total_bytes, expected), notice, peer, StripeStatus.UNEXPECTED)
        now_s = self.loop.clock()
        if request_id not in self._arrivals:
            self._drop_unclaimed(now_s)
            if request_id not in self._expected and len(self._arrivals) >= UNCLAIMED_MOST:
                error = f"{UNCLAIMED_MOST} blobs have arrived unannounced"
                return self._refusal(error, notice, peer, StripeStatus.UNEXPECTED)
            self._arrivals[request_id] = EngineArrival(notice, now_s)
        arrival = self._arrivals[request_id]
        if notice.piece in arrival.done or arrival.pieces != notice.pieces:
            error = f"piece {notice.piece} of {notice.pieces} arrived after {len(arrival.done)} of {arrival.pieces}"
            return self._refusal(error, notice, peer, StripeStatus.UNEXPECTED)
        arrival.done.add(notice.piece)
        if len(arrival.done) == arrival.pieces:
            self._on_received(request_id, arrival.first_s, now_s, arrival.total_bytes)
        return StripeStatus.OK

    def _refusal(self, error: str, notice: Notice, peer: str, status: StripeStatus) -> StripeStatus:
        self.on_error(error, notice.request_id, peer)
        self._arrivals.pop(notice.request_id, None)
        return status

    def _drop_unclaimed(self, now_s: float) -> None:
        for request_id, arrival in list(self._arrivals.items()):
            if request_id not in self._expected and now_s - arrival.first_s > IDLE_DEADLINE_S:
                self.on_error(f"no expect arrived within {IDLE_DEADLINE_S:g} s of the data", request_id, "")
                del self._arrivals[request_id]

    def _on_connection(self, _events: int) -> None:
        while True:
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:  # no descriptor is left for it (accept(2)): it waits until the next one comes
                self.on_error(f"cannot accept: {error.strerror}", None, "")
                return
            peer = f"{address[0]}:{address[1]}"
            if self.zones:
                sock.setblocking(False)
                ControlStream(self, sock, peer)
            else:
                self.on_error("no zone is left for a further control stream", None, peer)
                sock.close()


class ControlStream:
    """One prefill worker's connection: a welcome to its zone, then notices and acks until it ends."""

    def __init__(self, receiver: EngineReceiver, sock: socket.socket, peer: str) -> None:
        self._receiver = receiver
        self._sock = sock
        self._peer = peer
        self._zone = receiver.zones.take()
        self._zone_offset = self._zone * ZONE_SLOTS * receiver.slot_bytes
        self._inbox = b""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(sock)
        engine = receiver.engine
        place = engine.base + self._zone_offset
        self._outbox = pack_welcome(Welcome(ZONE_SLOTS, engine.rpc_port, place, receiver.slot_bytes))
        receiver.loop.watch(sock, READABLE | WRITABLE, self._on_ready)

    def _on_ready(self, events: int) -> None:
        try:
            if events & WRITABLE:
                self._flush()
            if events & ~WRITABLE:
                self._read()
        except BlockingIOError:
            return
        except OSError:
            self._close()
        except WireError as error:
            self._receiver.on_error(str(error), None, self._peer)
            self._close()

    def _read(self) -> None:
        received = self._sock.recv(65_536)
        if not received:
            self._close()
            return
        self._inbox += received
        while len(self._inbox) >= NOTICE_BYTES:
            notice = unpack_notice(self._inbox[:NOTICE_BYTES])
            self._inbox = self._inbox[NOTICE_BYTES:]
            if notice.slot >= ZONE_SLOTS or notice.piece_bytes > self._receiver.slot_bytes:
                raise WireError(f"{notice.piece_bytes} bytes in slot {notice.slot}, which does not hold them")
            status = self._receiver.arrived(notice, self._checksum(notice), self._peer)
            self._outbox += wire.pack_ack(Ack(notice.request_id, notice.piece_bytes, status))
        self._flush()

    def _checksum(self, notice: Notice) -> int:
        at = self._zone_offset + notice.slot * self._receiver.slot_bytes
        return zlib.crc32(self._receiver.engine.memory[at : at + notice.piece_bytes])

    def _flush(self) -> None:
        sent = self._sock.send(self._outbox) if self._outbox else 0
        self._outbox = self._outbox[sent:]
        self._receiver.loop.rewatch(self._sock, READABLE | WRITABLE if self._outbox else READABLE)

    def _close(self) -> None:
        self._receiver.loop.unwatch(self._sock)
        self._receiver.zones.give_back(self._zone)
        self._sock.close()


def _mismatch(total_bytes: int, expected_bytes: int) -> str:
    return f"{total_bytes} bytes arrived, {expected_bytes} bytes were expected"
