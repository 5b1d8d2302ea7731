"""Background load: one flow of several connections, greedy or paced, over TCP or UDP.

A greedy TCP flow keeps few unsent bytes queued (TCP_NOTSENT_LOWAT), so congestion control and not the send buffer
limits its window. Stopping it is immediate: closing with SO_LINGER 0 drops queued bytes and sends RST.
A paced TCP flow gives each connection its share through SO_MAX_PACING_RATE; without the fq queueing discipline TCP
paces by itself (since Linux 4.13), but not the first ten segments of a connection (`tcp_update_skb_after_send` in its
tcp_output.c). Those of a hundred slow connections together fill a link for a third of a second, so they are written one
by one at the pace. UDP is paced by a token bucket here.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import TYPE_CHECKING

from workers.loop import READABLE, WRITABLE, Loop, Timer
from workers.streams import ABORT, SO_MAX_PACING_RATE, ConnectionState, StreamOptions

if TYPE_CHECKING:
    from collections.abc import Callable

TCP_NOTSENT_LOWAT = 25  # linux/tcp.h
NOTSENT_BYTES = 1 << 17
SEND_BYTES = 1 << 16
UNPACED_SEGMENTS = 10
PACED_BUFFER_S, LEAST_BUFFER_BYTES = 0.02, 5792
"""Send buffer of a paced connection, by its rate, at least four frames: what it may have on its way where a link gives
it less than that. Dozens of them would otherwise leave tenths of a second of queue behind when they stop, where real
switches hold microseconds."""
DATAGRAM_BYTES = 1400  # fits an MTU of 1500 bytes with a tunnel header
TICK_S = 0.004  # of the UDP token bucket
BURST_TICKS = 5  # a late tick sends at most this many ticks' bytes

_zeros = memoryview(bytes(SEND_BYTES))


class FlowStats:
    """Statistics of a stopped flow; the lists are by connection."""

    def __init__(
        self, sent_bytes: int, started_s: float, at_s: float, source_ports: list[int], retransmitted: list[int]
    ) -> None:
        self.sent_bytes = sent_bytes
        self.started_s = started_s
        self.at_s = at_s
        self.source_ports = source_ports
        self.retransmitted = retransmitted


class _PacedStart:
    """The first segments of a paced connection: how many are sent, and the timer of the next one.

    `phase`: the part of a segment's time that the first one waits, so that connections take turns.
    """

    def __init__(self, phase: float) -> None:
        self.phase = phase
        self.sent = 0
        self.segment_bytes = 0
        self.timer: Timer | None = None


class TcpFlow:
    """`connections` TCP streams of zeros to one sink, until it is stopped; `flow_id` is their slot.

    `sent_bytes`: acknowledged by the peer's kernel. `on_failed(error)` is called once when a connection is lost, after
    all connections have been closed.
    """

    def __init__(
        self,
        loop: Loop,
        address: tuple[str, int],
        connections: int,
        rate_bps: float | None,
        on_failed: Callable[[str], None],
        options: StreamOptions,
        flow_id: int,
    ) -> None:
        self._loop = loop
        self._on_failed = on_failed
        self._started_s = loop.clock()
        self._written: dict[socket.socket, int] = {}
        self._pace_Bps = None if rate_bps is None else max(1, round(rate_bps / connections / 8))
        self._starts: dict[socket.socket, _PacedStart] = {}
        self._chunk = _zeros
        self._acknowledged_bytes = 0
        self._retransmitted: list[int] = []
        self._source_ports: list[int] = []
        try:
            for stripe in range(connections):
                sock = options.connect(address, flow_id, stripe)
                self._written[sock] = 0
                self._source_ports.append(sock.getsockname()[1])
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
                sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOTSENT_BYTES)
                if self._pace_Bps is not None:
                    sock.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("@Q", self._pace_Bps))
                    buffer_bytes = max(round(PACED_BUFFER_S * self._pace_Bps), LEAST_BUFFER_BYTES)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
                    self._chunk = _zeros[: buffer_bytes // 2]  # one write may overfill a buffer that has space
                    self._starts[sock] = _PacedStart(stripe / connections)
                loop.watch(sock, READABLE | WRITABLE, lambda events, sock=sock: self._on_ready(sock, events))  # type: ignore[misc]
        except OSError:
            self._close()
            raise

    @property
    def sent_bytes(self) -> int:
        return self._acknowledged_bytes + sum(written - _unacknowledged(s) for s, written in self._written.items())

    def stop(self) -> FlowStats:
        """Stop at once: queued bytes are dropped; only bytes already sent still arrive."""
        at_s = self._loop.clock()
        self._close()
        return FlowStats(self._acknowledged_bytes, self._started_s, at_s, self._source_ports, self._retransmitted)

    def _on_ready(self, sock: socket.socket, events: int) -> None:
        try:
            if events & ~WRITABLE:
                sock.recv(1)
                self._fail("closed by the sink")
            elif sock in self._starts:
                self._send_segment(sock, self._starts[sock])
            else:
                self._written[sock] += sock.send(self._chunk)
        except BlockingIOError:
            if sock in self._starts:
                self._loop.rewatch(sock, READABLE | WRITABLE)
        except OSError as error:
            self._fail(error.strerror or str(error))

    def _send_segment(self, sock: socket.socket, start: _PacedStart) -> None:
        """One of the first segments of a paced connection; the next one follows after its time."""
        assert self._pace_Bps is not None
        if start.timer is None:  # connected a moment ago
            start.segment_bytes = min(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG), SEND_BYTES)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wait_s = start.phase * start.segment_bytes / self._pace_Bps
        else:
            self._written[sock] += sock.send(_zeros[: start.segment_bytes])
            start.sent += 1
            wait_s = start.segment_bytes / self._pace_Bps
        if start.sent == UNPACED_SEGMENTS:
            del self._starts[sock]
            self._loop.rewatch(sock, READABLE | WRITABLE)
        else:
            self._loop.rewatch(sock, READABLE)
            start.timer = self._loop.call_at(self._loop.clock() + wait_s, lambda: self._on_ready(sock, WRITABLE))

    def _fail(self, error: str) -> None:
        self._close()
        self._on_failed(error)

    def _close(self) -> None:
        for start in self._starts.values():
            if start.timer is not None:
                start.timer.cancel()
        self._starts.clear()
        self._acknowledged_bytes = self.sent_bytes
        self._retransmitted += [ConnectionState.of(sock).retransmitted for sock in self._written]
        for sock in self._written:
            self._loop.unwatch(sock)
            sock.close()
        self._written.clear()


class UdpFlow:
    """Datagrams of zeros at a total payload rate of `rate_bps`, in turn from `connections` source ports."""

    def __init__(
        self,
        loop: Loop,
        address: tuple[str, int],
        connections: int,
        rate_bps: float,
        on_failed: Callable[[str], None],
        options: StreamOptions,
        flow_id: int,
    ) -> None:
        self.sent_bytes = 0
        self._loop = loop
        self._on_failed = on_failed
        self._started_s = loop.clock()
        self._rate_Bps = rate_bps / 8
        self._tick_s = max(TICK_S, DATAGRAM_BYTES / self._rate_Bps)
        self._tokens = 0.0
        self._filled_s = self._started_s
        self._turn = 0
        self._socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(connections)]
        self._timer = loop.call_at(self._started_s + self._tick_s, self._tick)
        try:
            for stripe, sock in enumerate(self._socks):
                sock.setblocking(False)
                options.bind_datagrams(sock, address, flow_id, stripe)
                sock.connect(address)
        except OSError:
            self.stop()
            raise

    def stop(self) -> FlowStats:
        at_s = self._loop.clock()
        self._timer.cancel()
        ports = [sock.getsockname()[1] for sock in self._socks]
        for sock in self._socks:
            sock.close()
        self._socks.clear()
        return FlowStats(self.sent_bytes, self._started_s, at_s, ports, [0] * len(ports))

    def _tick(self) -> None:
        now_s = self._loop.clock()
        burst = max(self._rate_Bps * self._tick_s * BURST_TICKS, DATAGRAM_BYTES)
        self._tokens = min(self._tokens + (now_s - self._filled_s) * self._rate_Bps, burst)
        self._filled_s = now_s
        try:
            while self._tokens >= DATAGRAM_BYTES:
                self._tokens -= DATAGRAM_BYTES
                self._turn = (self._turn + 1) % len(self._socks)
                self.sent_bytes += self._socks[self._turn].send(_zeros[:DATAGRAM_BYTES])
        except BlockingIOError:
            pass  # the interface's queue is full: this datagram is lost
        except OSError as error:
            self.stop()
            self._on_failed(error.strerror or str(error))
            return
        # Relative to the schedule, or to now if it is late by more than a burst.
        due_s = self._timer.when_s + self._tick_s
        self._timer = self._loop.call_at(due_s if due_s > now_s - burst / self._rate_Bps else now_s, self._tick)


Flow = TcpFlow | UdpFlow


def _unacknowledged(sock: socket.socket) -> int:
    """Bytes written to a TCP socket that its peer has not acknowledged: SIOCOUTQ, tcp(7)."""
    queued: int = struct.unpack("@i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    return queued
