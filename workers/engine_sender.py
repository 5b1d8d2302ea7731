"""The sending end of KV transfers through a transfer engine: which piece goes into which slot of which peer, and when.

Owns the control streams to decode workers and the slots at both ends; `piece_writer` moves the bytes. A transfer fails
when its peer's control stream ends, a write fails, the peer refuses a piece or its deadline passes. A slot is used
again only when the engine has let go of what it was for.
"""

from __future__ import annotations

import math
import socket
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from workers import wire
from workers.loop import READABLE, WRITABLE, Loop, Mailbox
from workers.mooncake_engine import HEADER_BYTES
from workers.outbound import Early, Sent
from workers.piece_writer import WARM_BYTES, Target, Written, warm_up, write_piece
from workers.pieces import WELCOME_BYTES, Notice, SlotPool, Welcome, pack_notice, piece_sizes, unpack_welcome, writes_of
from workers.streams import keep_alive
from workers.wire import StripeStatus, WireError

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.mooncake_engine import Engine
    from workers.streams import StreamOptions

    Address = tuple[str, int]

OWN_SLOTS = 16
"""Pieces of one prefill worker that are under way at once; the next ones wait."""


def memory_bytes(slot_bytes: int) -> int:
    """The memory that a sender needs of its engine."""
    return OWN_SLOTS * slot_bytes + WARM_BYTES


class EngineSender:
    """Sends blobs through an engine with the memory of `memory_bytes`, in slots of `slot_bytes`, over `lanes`."""

    def __init__(self, loop: Loop, engine: Engine, options: StreamOptions, slot_bytes: int, lanes: int) -> None:
        self.loop = loop
        self.engine = engine
        self.options = options
        self.slot_bytes = slot_bytes
        self.lanes = lanes
        self.mailbox = Mailbox(loop)
        self.slots = SlotPool(OWN_SLOTS)
        self._peers: dict[Address, Peer] = {}
        self._waiting: deque[EngineTransfer] = deque()  # those with pieces that have no slots yet

    def send(
        self,
        request_id: int,
        address: Address,
        total_bytes: int,
        stripes: int,
        deadline_s: float,
        on_done: Callable[[Sent], None],
        on_failed: Callable[[str], None],
        early: Early | None = None,
    ) -> None:
        """As `outbound.Sender`, but that it sends what is whole (ServingSpec refuses `overlap` with this engine)."""
        if early is not None:
            raise ValueError("an engine sends what is whole, not what a prefill has made so far")
        peer = self._peer(address)
        transfer = EngineTransfer(self, peer, request_id, total_bytes, stripes, deadline_s, on_done, on_failed)
        peer.transfers.add(transfer)
        self._waiting.append(transfer)
        self.pump()

    def open(
        self, addresses: list[Address], count: int, on_done: Callable[[], None], on_failed: Callable[[str], None]
    ) -> None:
        """As `outbound.Sender`: control streams, and connections of the engine that have moved bytes."""
        if not addresses:
            on_done()
            return
        address, *others = addresses

        def ready(error: str) -> None:
            if error:
                on_failed(error)
            else:
                self.open(others, count, on_done, on_failed)

        self._peer(address).when_ready(ready)

    def pump(self) -> None:
        """Start the next pieces that have a slot at both ends, transfers in the order of their orders."""
        for transfer in list(self._waiting):
            while transfer.unsent and transfer.peer.slots and self.slots:
                transfer.start_piece()
            if not transfer.unsent:
                self._waiting.remove(transfer)

    def lost(self, peer: Peer) -> None:
        """The next transfer to it opens a new control stream."""
        if self._peers.get(peer.address) is peer:
            del self._peers[peer.address]

    def _peer(self, address: Address) -> Peer:
        if address not in self._peers:
            self._peers[address] = Peer(self, address)
        return self._peers[address]


class Flying(NamedTuple):
    """A piece that the peer has been told of, in its slot."""

    transfer: EngineTransfer
    slot: int
    notice: Notice


class Peer:
    """A decode worker: its control stream, its zone. `slots` is empty until the engine's connections are warm."""

    def __init__(self, sender: EngineSender, address: Address) -> None:
        self.address = address
        self.slots = SlotPool(0)
        self.welcome = Welcome(0, 0, 0, 0)
        self.transfers: set[EngineTransfer] = set()
        self._sender = sender
        self._callbacks: list[Callable[[str], None]] = []
        self._ready = False
        self._flying: deque[Flying] = deque()
        self._inbox = b""
        self._outbox = b""
        self._sock: socket.socket | None = None
        try:
            self._sock = sender.options.connect(address, 0, wire.STRIPES_MAX)  # no stripe has its port
        except OSError as error:
            text = self._complaint(error.strerror or str(error))
            sender.loop.call_at(sender.loop.clock(), lambda: self._fail(text))
            return
        keep_alive(self._sock)
        sender.loop.watch(self._sock, READABLE, self._on_readable)

    @property
    def target(self) -> Target:
        host, port = self.address
        return Target(f"{host}:{self.welcome.rpc_port}", host, (port, self.welcome.rpc_port))

    def when_ready(self, callback: Callable[[str], None]) -> None:
        """Call back with an empty text once pieces can be sent, with an error when that fails."""
        if self._ready:
            callback("")
        else:
            self._callbacks.append(callback)

    def remote(self, slot: int) -> int:
        return self.welcome.zone + slot * self.welcome.slot_bytes

    def tell(self, transfer: EngineTransfer, notice: Notice) -> None:
        self._flying.append(Flying(transfer, notice.slot, notice))
        self._outbox += pack_notice(notice)
        self._flush()

    def _on_readable(self, events: int) -> None:
        assert self._sock is not None
        try:
            if events & WRITABLE:
                self._flush()
            received = self._sock.recv(4096)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(self._complaint(error.strerror or str(error)))
            return
        if not received:
            self._fail(self._complaint("closed by the receiver"))
            return
        self._inbox += received
        try:
            self._read()
        except WireError as error:
            self._fail(self._complaint(str(error)))

    def _read(self) -> None:
        if not self.welcome.slots and len(self._inbox) >= WELCOME_BYTES:
            self.welcome = unpack_welcome(self._inbox[:WELCOME_BYTES])
            self._inbox = self._inbox[WELCOME_BYTES:]
            if self.welcome.slot_bytes < max(self._sender.slot_bytes, WARM_BYTES):
                raise WireError(f"its slots of {self.welcome.slot_bytes} bytes are too small")
            sender = self._sender
            local = OWN_SLOTS * sender.slot_bytes
            warm_up(sender.engine, self.target, local, self.remote(0), sender.lanes, sender.mailbox, self._on_warm)
        while self.welcome.slots and len(self._inbox) >= wire.ACK_BYTES:
            ack = wire.unpack_ack(self._inbox[: wire.ACK_BYTES])
            self._inbox = self._inbox[wire.ACK_BYTES :]
            if not self._flying:
                raise WireError("an ack without a piece")
            transfer, slot, notice = self._flying.popleft()
            self.slots.give_back(slot)
            if (ack.request_id, ack.received_bytes) != (notice.request_id, notice.piece_bytes):
                raise WireError(f"an ack for {ack.received_bytes} bytes of request {ack.request_id}")
            transfer.acknowledged(notice.piece, ack.status)
            self._sender.pump()

    def _on_warm(self, error: str) -> None:
        if self._sock is None:
            return
        if error:
            self._fail(self._complaint(error))
            return
        self.slots = SlotPool(self.welcome.slots)
        self._ready = True
        for callback in self._callbacks:
            callback("")
        self._callbacks.clear()
        self._sender.pump()

    def _flush(self) -> None:
        if self._sock is None:
            return
        try:
            sent = self._sock.send(self._outbox) if self._outbox else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the reader learns of it, too
        self._outbox = self._outbox[sent:]
        self._sender.loop.rewatch(self._sock, READABLE | WRITABLE if self._outbox else READABLE)

    def _fail(self, error: str) -> None:
        """The peer is gone, and every transfer to it with it."""
        self._sender.lost(self)
        self.slots = SlotPool(0)
        self._ready = False
        if self._sock is not None:
            self._sender.loop.unwatch(self._sock)
            self._sock.close()
            self._sock = None
        for callback in self._callbacks:
            callback(error)
        self._callbacks.clear()
        for transfer in list(self.transfers):
            transfer.fail(error)

    def _complaint(self, error: str) -> str:
        return f"control stream to {self.address[0]}:{self.address[1]}: {error}"


class EngineTransfer:
    """One blob: its pieces that are still to be sent, and those that are acknowledged."""

    def __init__(
        self,
        sender: EngineSender,
        peer: Peer,
        request_id: int,
        total_bytes: int,
        stripes: int,
        deadline_s: float,
        on_done: Callable[[Sent], None],
        on_failed: Callable[[str], None],
    ) -> None:
        self.peer = peer
        self._sender = sender
        self._request_id = request_id
        self._total_bytes = total_bytes
        self._stripes = stripes
        self._on_done = on_done
        self._on_failed = on_failed
        self._started_s = sender.loop.clock()
        self._timer = sender.loop.call_at(
            self._started_s + deadline_s, lambda: self.fail(f"deadline of {deadline_s:g} s passed")
        )
        self._sizes = piece_sizes(total_bytes, sender.slot_bytes)
        self._next = 0
        self._acknowledged = 0
        self._before: dict[int, int] = {}  # segments retransmitted by lane
        self._over = False

    @property
    def unsent(self) -> bool:
        return not self._over and self._next < len(self._sizes)

    def start_piece(self) -> None:
        """Send the next piece; there is a slot for it at both ends."""
        sender, peer, piece = self._sender, self.peer, self._next
        self._next += 1
        own, slot = sender.slots.take(), peer.slots.take()

        def on_written(written: Written) -> None:
            sender.slots.give_back(own)
            for lane in written.lanes:
                self._before.setdefault(lane.source_port, lane.state.retransmitted)
            if self._over or written.error:
                peer.slots.give_back(slot)
                self.fail(f"piece {piece} of {len(self._sizes)}: {written.error}")
            else:
                sizes = (self._sizes[piece], self._total_bytes)
                peer.tell(self, Notice(self._request_id, slot, piece, len(self._sizes), *sizes, written.checksum))
            sender.pump()

        write_piece(
            sender.engine,
            peer.target,
            (self._request_id, piece),
            own * sender.slot_bytes,
            peer.remote(slot),
            self._sizes[piece],
            self._stripes,
            sender.mailbox,
            on_written,
        )

    def acknowledged(self, piece: int, status: StripeStatus) -> None:
        if status is not StripeStatus.OK:
            self.fail(f"piece {piece} of {len(self._sizes)}: refused by the receiver: {status.name.lower()}")
            return
        self._acknowledged += 1
        if self._acknowledged == len(self._sizes) and not self._over:
            self._end()
            writes = sum(len(writes_of(size, self._stripes)) for size in self._sizes)
            lanes = self._sender.engine.lanes(self.peer.target.host, self.peer.target.but)
            self._on_done(
                Sent(
                    self._started_s,
                    self._sender.loop.clock(),
                    [lane.source_port for lane in lanes],
                    [lane.state.retransmitted - self._before.get(lane.source_port, 0) for lane in lanes],
                    self._total_bytes + writes * HEADER_BYTES,
                    min((lane.state.least_round_trip_s for lane in lanes), default=math.inf),
                    lanes[0].target_port if lanes else self.peer.address[1],
                )
            )

    def fail(self, error: str) -> None:
        """Report it, once. Writes under way go on: an engine has no way to end them."""
        if not self._over:
            self._end()
            self._on_failed(error)

    def _end(self) -> None:
        self._over = True
        self._timer.cancel()
        self.peer.transfers.discard(self)
