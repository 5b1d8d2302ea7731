"""The connections of a prefill worker to decode workers: new ones for every transfer, or persistent ones.

An RDMA engine such as NIXL or Mooncake's connects once and moves every later KV cache over the same queue pairs.
Persistent TCP connections behave alike: no handshake, no slow start from the initial window, and the same path.
"""

from __future__ import annotations

import bisect
import errno
import os
import socket
from typing import TYPE_CHECKING, NamedTuple

from workers.loop import WRITABLE, Loop
from workers.streams import keep_alive

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.streams import StreamOptions

Address = tuple[str, int]


class ConnectionBundle(NamedTuple):
    """The connections of one transfer, one for each stripe. `slot` numbers the bundles to one address."""

    slot: int
    address: Address
    sockets: list[socket.socket]


class ConnectionPool:
    """Bundles of connections. A persistent bundle serves one transfer at a time; the lowest idle slot is taken first.

    While all persistent bundles to an address are in use, the next transfer to it opens another.
    """

    def __init__(self, loop: Loop, options: StreamOptions, persistent: bool) -> None:
        self.persistent = persistent
        self._loop = loop
        self._options = options
        self._idle: dict[tuple[Address, int], list[ConnectionBundle]] = {}
        self._opened: dict[tuple[Address, int], int] = {}
        self._free_slots: dict[tuple[Address, int], list[int]] = {}  # of bundles that the other end has closed

    def take(self, address: Address, count: int) -> ConnectionBundle:
        """A bundle of `count` connections; new ones are still connecting. OSError if a connection cannot be started.

        Idle connections that the other end has closed, because its worker has ended, are replaced by new ones.
        """
        idle, free = self._idle.get((address, count), []), self._free_slots.setdefault((address, count), [])
        while idle:
            bundle = idle.pop(0)
            if not any(is_closed(sock) for sock in bundle.sockets):
                return bundle
            for sock in bundle.sockets:
                sock.close()
            bisect.insort(free, bundle.slot)
        opened = self._opened.get((address, count), 0)
        slot = free[0] if free else opened
        sockets: list[socket.socket] = []
        try:
            for stripe in range(count):
                sockets.append(self._options.connect(address, slot, stripe))
        except OSError:
            for sock in sockets:
                sock.close()
            raise
        if self.persistent:
            for sock in sockets:
                keep_alive(sock)
        if free:
            free.pop(0)
        self._opened[address, count] = max(opened, slot + 1)
        return ConnectionBundle(slot, address, sockets)

    def give_back(self, bundle: ConnectionBundle) -> None:
        """After a successful transfer: make its connections idle if persistent, else close them."""
        if self.persistent:
            bisect.insort(
                self._idle.setdefault((bundle.address, len(bundle.sockets)), []), bundle, key=lambda b: b.slot
            )
        else:
            for sock in bundle.sockets:
                sock.close()

    def open(
        self, addresses: list[Address], count: int, on_done: Callable[[], None], on_failed: Callable[[str], None]
    ) -> None:
        """Open a bundle to every address, one address after another; calls back once, at the end."""
        if not addresses:
            on_done()
            return
        address, *others = addresses
        try:
            bundle = self.take(address, count)
        except OSError as error:
            on_failed(f"cannot connect to {address[0]}:{address[1]}: {error.strerror or error}")
            return
        waiting = set(bundle.sockets)

        def on_ready(sock: socket.socket) -> None:
            waiting.discard(sock)
            self._loop.unwatch(sock)
            if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                for one in bundle.sockets:
                    self._loop.unwatch(one)
                    one.close()
                reason = os.strerror(error) if error in errno.errorcode else str(error)
                on_failed(f"cannot connect to {address[0]}:{address[1]}: {reason}")
            elif not waiting:
                self.give_back(bundle)
                self.open(others, count, on_done, on_failed)

        for sock in bundle.sockets:
            self._loop.watch(sock, WRITABLE, lambda _events, sock=sock: on_ready(sock))  # type: ignore[misc]


def is_closed(sock: socket.socket) -> bool:
    """Whether the other end of an idle connection has closed or reset it."""
    try:
        return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
