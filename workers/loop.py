"""The event loop of a worker: one thread, one epoll set, one heap of timers on the monotonic clock, and a mailbox for
what other threads have to say.

asyncio would work, but its import doubles the start time of a worker, and epoll alone rounds a timeout up to a whole
millisecond (epoll_wait(2)). Here select(2), whose timeouts have microseconds, waits on the epoll descriptor, so that a
decode step ends on time.
"""

from __future__ import annotations

import heapq
import queue
import select
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT


class Timer:
    """One callback at `when_s`, unless it is cancelled."""

    __slots__ = ("callback", "when_s")

    def __init__(self, when_s: float, callback: Callable[[], None]) -> None:
        self.when_s = when_s
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """Call back when sockets are ready and when timers are due, until `stop`.

    Due timers run before ready sockets in every round. A callback may be called for a socket that is not ready (its
    descriptor number belonged to another socket in the same round), so sockets must be non-blocking and callbacks must
    handle `BlockingIOError`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._timers_made = 0
        self._running = False

    def watch(self, sock: socket.socket, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(ready_events)` whenever `sock` is ready for `events`, or has an error."""
        self._epoll.register(sock.fileno(), events)
        self._callbacks[sock.fileno()] = callback

    def rewatch(self, sock: socket.socket, events: int) -> None:
        self._epoll.modify(sock.fileno(), events)

    def unwatch(self, sock: socket.socket) -> None:
        if self._callbacks.pop(sock.fileno(), None) is not None:
            self._epoll.unregister(sock.fileno())

    def call_at(self, when_s: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(when_s, callback)
        self._timers_made += 1
        heapq.heappush(self._timers, (when_s, self._timers_made, timer))
        return timer

    def stop(self) -> None:
        self._running = False

    def close(self) -> None:
        """Give the epoll descriptor back."""
        self._epoll.close()

    def run(self) -> None:
        self._running = True
        descriptors = [self._epoll.fileno()]
        while self._running:
            timeout_s = self._run_due_timers()
            if not self._running:
                break
            if timeout_s is None:
                ready = self._epoll.poll()
            else:
                select.select(descriptors, (), (), timeout_s)
                ready = self._epoll.poll(0)
            for descriptor, events in ready:
                callback = self._callbacks.get(descriptor)
                if callback is not None:
                    callback(events)

    def _run_due_timers(self) -> float | None:
        """Run due timers; return the seconds to the next one, or None without one."""
        while self._timers:
            when_s, _, timer = self._timers[0]
            if timer.callback is None:
                heapq.heappop(self._timers)
                continue
            wait_s = when_s - self.clock()
            if wait_s > 0:
                return wait_s
            heapq.heappop(self._timers)
            timer.callback()
        return None


class Mailbox:
    """Callbacks that other threads leave for the thread of a loop, in order."""

    def __init__(self, loop: Loop) -> None:
        self._left: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._bell, self._rope = socket.socketpair()
        for end in (self._bell, self._rope):
            end.setblocking(False)
        loop.watch(self._bell, READABLE, self._on_bell)

    def post(self, callback: Callable[[], None]) -> None:
        """Have the loop call it; from any thread."""
        self._left.put(callback)
        with suppress(BlockingIOError):  # it rings already
            self._rope.send(b"\0")

    def _on_bell(self, _events: int) -> None:
        try:
            self._bell.recv(4096)
        except BlockingIOError:
            return
        for _ in range(self._left.qsize()):
            self._left.get()()
