"""The receiving end of KV transfers: accepts stripes, counts and discards their bytes, acknowledges them.

Owns connections and arriving blobs; the decode worker decides what follows. Payload is dropped inside the kernel
(MSG_TRUNC on a TCP socket, tcp(7)). SO_RCVLOWAT lets the process sleep until enough bytes are available; the last bytes
always wake it, so the time of the last byte is exact.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Protocol

from workers import wire
from workers.loop import READABLE, Loop
from workers.wire import Ack, Header, StripeStatus, WireError

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES = 1 << 20
WAKE_BYTES = 1 << 16
SWEEP_S = 5.0
HEADER_DEADLINE_S = 10.0  # for the rest of a header, and for a peer to close after its ack
UNCLAIMED_MOST = 4096  # blobs that no `expect` announces
IDLE_DEADLINE_S = 60.0  # for a stripe without progress, and for a blob that no `expect` announces

_discard = bytearray(READ_BYTES)  # never written to: MSG_TRUNC copies nothing


class BlobReceiver(Protocol):
    """What a decode worker's blobs arrive at: our own sockets, or the memory of a transfer engine.

    Calls `on_received(request_id, first_byte_s, at_s, total_bytes)` when a blob is complete, and
    `on_error(error, request_id, peer)` for everything that is not a proper transfer.
    """

    def expect(self, request_id: int, total_bytes: int, stripes: int) -> None:
        """Accept this request's blob with these bytes only, also if it has started to arrive."""
        ...

    def refuse(self, request_id: int) -> None:
        """Drop a request's blob and accept none until it is expected again."""
        ...

    def forget(self, request_id: int) -> None:
        """The request has ended: remove its blob and its expectation."""
        ...

    def holds(self, request_id: int) -> bool:
        """Whether the blob, or a part of it, is here."""
        ...


class Arrival:
    """One request's blob: which stripes are open and which are complete."""

    def __init__(self, header: Header, first_byte_s: float) -> None:
        self.total_bytes = header.total_bytes
        self.stripes = header.stripes
        self.first_byte_s = first_byte_s
        self.complete_s: float | None = None
        self.open: dict[int, Stripe] = {}
        self.done: set[int] = set()


class Receiver:
    """Accept stripes on a listening socket and report whole blobs.

    `on_received(request_id, first_byte_s, at_s, total_bytes)` is called right after the read that completes a blob;
    `on_error(error, request_id, peer)` for everything that is not a proper transfer. When one stripe fails, its whole
    blob is dropped and may be transferred again.
    """

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        on_received: Callable[[int, float, float, int], None],
        on_error: Callable[[str, int | None, str], None],
        stripe_buffer_bytes: int | None = None,
    ) -> None:
        self.loop = loop
        self.on_received = on_received
        self.on_error = on_error
        self.arrivals: dict[int, Arrival] = {}
        self._listener = listener
        self._expected: dict[int, tuple[int, int]] = {}  # total bytes, stripes
        self._refused: set[int] = set()
        self._stripes: set[Stripe] = set()
        self._sweeping = False
        if stripe_buffer_bytes is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, stripe_buffer_bytes)
        loop.watch(listener, READABLE, self._on_connection)

    def expect(self, request_id: int, total_bytes: int, stripes: int) -> None:
        """Accept this request's blob with these bytes and stripes only, also if it has started to arrive."""
        self._refused.discard(request_id)
        self._expected[request_id] = (total_bytes, stripes)
        arrival = self.arrivals.get(request_id)
        if arrival is not None and (arrival.total_bytes, arrival.stripes) != (total_bytes, stripes):
            self.on_error(_mismatch(arrival.total_bytes, arrival.stripes, total_bytes, stripes), request_id, "")
            self.drop(request_id, StripeStatus.UNEXPECTED)

    def refuse(self, request_id: int) -> None:
        """Drop a request's blob and accept none until it is expected again."""
        self._refused.add(request_id)
        self.forget(request_id)

    def forget(self, request_id: int) -> None:
        """The request has ended: remove its blob and its expectation."""
        self._expected.pop(request_id, None)
        self.drop(request_id, StripeStatus.REFUSED)

    def holds(self, request_id: int) -> bool:
        """Whether the blob, or a part of it, is here."""
        return request_id in self.arrivals

    def drop(self, request_id: int, status: StripeStatus) -> None:
        arrival = self.arrivals.pop(request_id, None)
        if arrival is not None:
            for stripe in list(arrival.open.values()):
                stripe.reply(status)

    def admit(self, stripe: Stripe, header: Header) -> Arrival:
        """The blob to which a new stripe belongs; `UnwelcomeError` if it may not join it."""
        request_id = header.request_id
        if request_id in self._refused:
            raise UnwelcomeError(StripeStatus.REFUSED, "the request was cancelled or rejected")
        expected = self._expected.get(request_id)
        if expected is not None and expected != (header.total_bytes, header.stripes):
            raise UnwelcomeError(StripeStatus.UNEXPECTED, _mismatch(header.total_bytes, header.stripes, *expected))
        if header.total_bytes == 0:
            return Arrival(header, stripe.first_byte_s)  # no payload: `expect` completes it
        arrival = self.arrivals.get(request_id)
        if arrival is None:
            if expected is None and len(self.arrivals) >= UNCLAIMED_MOST:
                raise UnwelcomeError(StripeStatus.UNEXPECTED, f"{UNCLAIMED_MOST} blobs have arrived unannounced")
            arrival = self.arrivals[request_id] = Arrival(header, stripe.first_byte_s)
        if (arrival.total_bytes, arrival.stripes) != (header.total_bytes, header.stripes):
            error = _mismatch(header.total_bytes, header.stripes, arrival.total_bytes, arrival.stripes)
            raise UnwelcomeError(StripeStatus.UNEXPECTED, error)
        if header.stripe in arrival.done or header.stripe in arrival.open:
            raise UnwelcomeError(StripeStatus.UNEXPECTED, f"stripe {header.stripe} arrived twice")
        arrival.first_byte_s = min(arrival.first_byte_s, stripe.first_byte_s)
        arrival.open[header.stripe] = stripe
        return arrival

    def closed(self, stripe: Stripe) -> None:
        self._stripes.discard(stripe)

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
            sock.setblocking(False)
            self._stripes.add(Stripe(self, sock, f"{address[0]}:{address[1]}"))
            self._sweep_later()

    def _sweep_later(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            self.loop.call_at(self.loop.clock() + SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        now_s = self.loop.clock()
        for stripe in list(self._stripes):
            stripe.check_progress(now_s)
        unclaimed = [id_ for id_ in self.arrivals if id_ not in self._expected]
        for request_id in unclaimed:
            complete_s = self.arrivals[request_id].complete_s
            if complete_s is not None and now_s - complete_s > IDLE_DEADLINE_S:
                self.on_error(f"no expect arrived within {IDLE_DEADLINE_S:g} s of the data", request_id, "")
                self.drop(request_id, StripeStatus.REFUSED)
        if self._stripes or unclaimed:
            self._sweep_later()


class UnwelcomeError(Exception):
    """A well-formed stripe that cannot be accepted."""

    def __init__(self, status: StripeStatus, error: str) -> None:
        super().__init__(error)
        self.status = status


class Stripe:
    """One connection: header, payload, ack; then end of file or, if it is persistent, the header of the next stripe."""

    def __init__(self, receiver: Receiver, sock: socket.socket, peer: str) -> None:
        self.first_byte_s = 0.0
        self._receiver = receiver
        self._sock = sock
        self._peer = peer
        self._low_water = 1
        self._await_header()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        receiver.loop.watch(sock, READABLE, self._on_readable)

    def _await_header(self) -> None:
        """Reset to the initial state, in which a persistent connection may stay idle without a deadline."""
        self._header_bytes = b""
        self._header: Header | None = None
        self._arrival: Arrival | None = None
        self._remaining = 0
        self._replied = False
        self._idle = True
        self._checked_s = self._receiver.loop.clock()
        self._checked_remaining = -1

    def reply(self, status: StripeStatus) -> None:
        """Acknowledge; after any status but OK the rest of the payload is discarded."""
        if self._replied:
            return
        self._replied = True
        self._checked_s = self._receiver.loop.clock()
        self._set_low_water(1)
        request_id, received = (self._header.request_id, self._header.stripe_bytes) if self._header else (0, 0)
        if self._arrival is not None and self._header is not None:
            self._arrival.open.pop(self._header.stripe, None)
        try:
            self._sock.send(wire.pack_ack(Ack(request_id, received - self._remaining, status)))
            if status is not StripeStatus.OK:
                self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close()
            return
        if status is StripeStatus.OK and self._header is not None and self._header.persistent:
            self._await_header()

    def check_progress(self, now_s: float) -> None:
        """Close the connection of a peer that has sent nothing for too long."""
        if self._idle:
            return
        deadline_s = IDLE_DEADLINE_S if self._header is not None and not self._replied else HEADER_DEADLINE_S
        if not self._replied and self._remaining != self._checked_remaining:
            self._checked_remaining, self._checked_s = self._remaining, now_s
        elif now_s - self._checked_s > deadline_s:
            if not self._replied:
                self._fail(f"nothing arrived for {deadline_s:g} s", StripeStatus.BROKEN)
            self._close()

    def _on_readable(self, _events: int) -> None:
        try:
            if self._replied:
                self._after_reply()
            elif self._header is None:
                self._read_header()
            else:
                self._read_payload()
        except BlockingIOError:
            return
        except OSError as error:
            if not self._replied:
                self._fail(f"connection lost: {error.strerror}", StripeStatus.BROKEN)
            self._close()

    def _read_header(self) -> None:
        received = self._sock.recv(wire.HEADER_BYTES - len(self._header_bytes))
        if not received:
            if self._header_bytes:
                self._fail(f"header ended after {len(self._header_bytes)} bytes", StripeStatus.BAD_HEADER)
            self._close()
            return
        if not self._header_bytes:
            self.first_byte_s = self._checked_s = self._receiver.loop.clock()
            self._idle = False
        self._header_bytes += received
        if len(self._header_bytes) < wire.HEADER_BYTES:
            return
        try:
            self._header = wire.unpack_header(self._header_bytes)
            self._remaining = self._header.stripe_bytes
            self._arrival = self._receiver.admit(self, self._header)
        except WireError as error:
            self._fail(str(error), StripeStatus.BAD_HEADER)
        except UnwelcomeError as error:
            self._fail(str(error), error.status)
        else:
            if self._remaining == 0:
                self._complete(self.first_byte_s)
            else:
                self._set_low_water(min(self._remaining, WAKE_BYTES))
                self._read_payload()

    def _read_payload(self) -> None:
        count = self._sock.recv_into(_discard, min(self._remaining, READ_BYTES), socket.MSG_TRUNC)
        self._remaining -= count
        if self._remaining == 0:
            self._complete(self._receiver.loop.clock())
        elif count == 0:
            self._fail(f"payload ended {self._remaining} bytes early", StripeStatus.BROKEN)
            self._close()
        elif self._remaining < self._low_water:
            self._set_low_water(self._remaining)

    def _complete(self, at_s: float) -> None:
        arrival, header = self._arrival, self._header
        assert arrival is not None
        assert header is not None
        arrival.done.add(header.stripe)
        self.reply(StripeStatus.OK)
        if arrival.total_bytes and len(arrival.done) == arrival.stripes:
            arrival.complete_s = at_s
            self._receiver.on_received(header.request_id, arrival.first_byte_s, at_s, arrival.total_bytes)

    def _after_reply(self) -> None:
        count = self._sock.recv_into(_discard, READ_BYTES, socket.MSG_TRUNC)
        if count == 0:
            self._close()
        elif self._remaining == 0 and self._header is not None:
            self._receiver.on_error("bytes beyond the announced count", self._header.request_id, self._peer)
            self._close()

    def _fail(self, error: str, status: StripeStatus) -> None:
        request_id = self._header.request_id if self._header else None
        where = f"stripe {self._header.stripe} of {self._header.stripes}: " if self._header else ""
        if status is not StripeStatus.REFUSED:  # the driver requested that
            self._receiver.on_error(where + error, request_id, self._peer)
        self.reply(status)
        if self._arrival is not None and request_id is not None:
            self._receiver.drop(request_id, StripeStatus.BROKEN)

    def _set_low_water(self, count: int) -> None:
        if count != self._low_water:
            self._low_water = count
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def _close(self) -> None:
        self._receiver.loop.unwatch(self._sock)
        self._receiver.closed(self)
        self._sock.close()


def _mismatch(total_bytes: int, stripes: int, expected_bytes: int, expected_stripes: int) -> str:
    return (
        f"{total_bytes} bytes in {stripes} stripes arrived, {expected_bytes} bytes in {expected_stripes} were expected"
    )
