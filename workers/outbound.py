"""The sending end of one KV transfer: one stripe on each connection of a bundle.

Owns the bundle until the last ack, when it is returned, or the first failure, when its connections are reset. Payload
is one shared buffer of zeros; sendfile(2) from a memory file was measured and is not cheaper.
"""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING, NamedTuple, Protocol

from workers import wire
from workers.loop import READABLE, WRITABLE, Loop, Timer
from workers.streams import ABORT, ConnectionState
from workers.wire import Header, StripeStatus, WireError

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.connections import ConnectionPool

SEND_BYTES = 1 << 20  # on loopback 64 KiB costs 1.7 times the CPU of 1 MiB
RELEASES = 32  # times that an early transfer is given more during its prefill: a few layers each

_zeros = memoryview(bytes(SEND_BYTES))


class Sent(NamedTuple):
    """What a sender knows of a transfer after the last ack: seconds of the loop's clock; the lists are by stripe.

    `wire_bytes`: with headers. `least_round_trip_s`: of the connections, since each was opened. `target_port`: where
    they all end.
    """

    started_s: float
    at_s: float
    source_ports: list[int]
    retransmitted: list[int]
    wire_bytes: int
    least_round_trip_s: float
    target_port: int


class Early(NamedTuple):
    """The share of a blob that may be sent before its prefill ends, evenly over the prefill: seconds of the clock."""

    share: float
    started_s: float
    ends_s: float

    def released(self, now_s: float) -> float:
        """The share of the blob that may have been sent by then."""
        if now_s >= self.ends_s:
            return 1.0
        return self.share * max(now_s - self.started_s, 0.0) / (self.ends_s - self.started_s)


class Sender(Protocol):
    """What moves the blobs of a prefill worker: our own sockets, or a transfer engine."""

    def send(
        self,
        request_id: int,
        address: tuple[str, int],
        total_bytes: int,
        stripes: int,
        deadline_s: float,
        on_done: Callable[[Sent], None],
        on_failed: Callable[[str], None],
        early: Early | None = None,
    ) -> None:
        """Send `total_bytes` to the decode worker at `address`, and call back once, from the loop (`Transfer`)."""
        ...

    def open(
        self,
        addresses: list[tuple[str, int]],
        count: int,
        on_done: Callable[[], None],
        on_failed: Callable[[str], None],
    ) -> None:
        """Connect with every address, `count` stripes each, before the first transfer; calls back once."""
        ...


class SocketSender:
    """Our own sockets, of one pool."""

    def __init__(self, loop: Loop, connections: ConnectionPool) -> None:
        self._loop = loop
        self._connections = connections
        self.open = connections.open

    def send(
        self,
        request_id: int,
        address: tuple[str, int],
        total_bytes: int,
        stripes: int,
        deadline_s: float,
        on_done: Callable[[Sent], None],
        on_failed: Callable[[str], None],
        early: Early | None = None,
    ) -> None:
        """As `Sender`."""
        pool = self._connections
        Transfer(self._loop, request_id, address, total_bytes, stripes, deadline_s, on_done, on_failed, pool, early)


class Transfer:
    """Send `total_bytes` to `address`, and call back once. Where it is `early`, bytes leave as they are released.

    `on_done` after the last ack, or `on_failed(error)` after the first failure, when every connection has been reset.
    Never both, never after `abort`.
    """

    def __init__(
        self,
        loop: Loop,
        request_id: int,
        address: tuple[str, int],
        total_bytes: int,
        stripes: int,
        deadline_s: float,
        on_done: Callable[[Sent], None],
        on_failed: Callable[[str], None],
        connections: ConnectionPool,
        early: Early | None = None,
    ) -> None:
        self.loop = loop
        self._early = early
        self._release_timer: Timer | None = None
        self._on_done = on_done
        self._on_failed = on_failed
        self._connections = connections
        self._started_s = loop.clock()
        self._wire_bytes = total_bytes + stripes * wire.HEADER_BYTES
        from_s = self._started_s if early is None else max(self._started_s, early.ends_s)
        self._timer = loop.call_at(from_s + deadline_s, lambda: self._fail(f"deadline of {deadline_s:g} s passed"))
        self._target_port = address[1]
        self._open: list[_Stripe] = []
        self._waiting = stripes
        self._source_ports: list[int] = []
        self._retransmitted = [0] * stripes
        self._least_round_trip_s = math.inf
        self._over = False
        sizes = wire.stripe_sizes(total_bytes, stripes)
        try:
            self._bundle = connections.take(address, stripes)
        except OSError as error:
            # Reported from the loop, like every other failure, and not during construction.
            text = f"cannot connect to {address[0]}:{address[1]}: {error.strerror or error}"
            loop.call_at(self._started_s, lambda: self._fail(text))
            return
        for number, (size, sock) in enumerate(zip(sizes, self._bundle.sockets, strict=True)):
            self._source_ports.append(sock.getsockname()[1])
            header = Header(request_id, number, stripes, size, total_bytes, connections.persistent)
            self._open.append(_Stripe(self, sock, header))
        self._release()

    def _release(self) -> None:
        """Let the stripes send what the prefill has made, and come back for the rest."""
        if self._early is None:
            return
        now_s = self.loop.clock()
        for stripe in self._open:
            stripe.release(self._early.released(now_s))
        if now_s < self._early.ends_s:
            step_s = (self._early.ends_s - self._early.started_s) / RELEASES
            self._release_timer = self.loop.call_at(min(now_s + step_s, self._early.ends_s), self._release)

    def abort(self) -> None:
        """Reset every connection; no call-back follows."""
        self._over = True
        self._timer.cancel()
        if self._release_timer is not None:
            self._release_timer.cancel()
        for stripe in self._open:
            stripe.reset()

    @property
    def is_free(self) -> bool:
        """Whether all bytes may be sent from the start."""
        return self._early is None

    def stripe_acknowledged(self, stripe: int, retransmitted: int, least_round_trip_s: float) -> None:
        self._retransmitted[stripe] = retransmitted
        self._least_round_trip_s = min(self._least_round_trip_s, least_round_trip_s)
        self._waiting -= 1
        if self._waiting == 0 and not self._over:
            self._over = True
            self._timer.cancel()
            at_s = self.loop.clock()
            self._connections.give_back(self._bundle)
            counted = (self._source_ports, self._retransmitted, self._wire_bytes, self._least_round_trip_s)
            self._on_done(Sent(self._started_s, at_s, *counted, self._target_port))

    def stripe_failed(self, error: str) -> None:
        self._fail(error)

    def _fail(self, error: str) -> None:
        if not self._over:
            self.abort()
            self._on_failed(error)


class _Stripe:
    """One connection: wait until it is up, send header and payload, read the ack."""

    def __init__(self, transfer: Transfer, sock: socket.socket, header: Header) -> None:
        self._transfer = transfer
        self._sock = sock
        self._header = header
        self._prefix = wire.pack_header(header)
        self._remaining = header.stripe_bytes
        self._held = 0 if transfer.is_free else header.stripe_bytes
        self._ack = b""
        self._before = ConnectionState.of(sock)
        transfer.loop.watch(sock, READABLE | WRITABLE, self._on_ready)

    def release(self, share: float) -> None:
        """That share of the payload may have been sent by now."""
        paused = not self._prefix and self._remaining == self._held
        self._held = self._header.stripe_bytes - int(share * self._header.stripe_bytes)
        if paused and self._held < self._remaining:
            self._transfer.loop.rewatch(self._sock, READABLE | WRITABLE)

    def reset(self) -> None:
        if self._sock.fileno() >= 0:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            self._close()

    def _on_ready(self, events: int) -> None:
        try:
            if events & ~WRITABLE:  # an ack, or the error of the connection
                self._read_ack()
            else:
                self._send()
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error.strerror or str(error))

    def _send(self) -> None:
        released = min(self._remaining - self._held, SEND_BYTES)
        if self._prefix:
            sent = self._sock.sendmsg([self._prefix, _zeros[:released]])
            header_sent = min(sent, len(self._prefix))
            self._prefix = self._prefix[header_sent:]
            self._remaining -= sent - header_sent
        elif released:
            self._remaining -= self._sock.send(_zeros[:released])
        if not self._prefix and self._remaining == self._held:
            self._transfer.loop.rewatch(self._sock, READABLE)

    def _read_ack(self) -> None:
        received = self._sock.recv(wire.ACK_BYTES - len(self._ack))
        if not received:
            self._fail("closed by the receiver without an ack")
            return
        self._ack += received
        if len(self._ack) < wire.ACK_BYTES:
            return
        try:
            ack = wire.unpack_ack(self._ack)
        except WireError as error:
            self._fail(str(error))
            return
        if ack.status is not StripeStatus.OK:
            self._fail(f"refused by the receiver: {ack.status.name.lower()}")
        elif (ack.request_id, ack.received_bytes) != (self._header.request_id, self._header.stripe_bytes):
            self._fail(f"receiver counted {ack.received_bytes} of {self._header.stripe_bytes} bytes")
        else:
            state = ConnectionState.of(self._sock)
            self._transfer.loop.unwatch(self._sock)
            if not self._header.persistent:
                self._sock.close()
            retransmitted = state.retransmitted - self._before.retransmitted
            self._transfer.stripe_acknowledged(self._header.stripe, retransmitted, state.least_round_trip_s)

    def _fail(self, error: str) -> None:
        self._transfer.stripe_failed(f"stripe {self._header.stripe} of {self._header.stripes}: {error}")

    def _close(self) -> None:
        self._transfer.loop.unwatch(self._sock)
        self._sock.close()
