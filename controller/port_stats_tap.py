"""A tap on a switch's connection: port statistics go directly to telemetry, all other messages to the framework.

The framework reads header and body separately, builds one object for each port and one event for each reply, and passes
it through a queue; that is most of the cost of polling (docs/explanation/cost.md). The tap reads once in the event loop
whenever data is available. It uses eventlet's loop and sockets, which both drivers are built on.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from controller.port_stats import Reply, split_stream

READ_B = 1 << 16
"""Bytes of one read; more than the replies of any switch here."""


class PortStatsTap:
    """Replaces the socket of a connection; must start at a message boundary.

    `green` is eventlet's socket, `loop` its event loop, `hub` the driver's module of that name, for its queue. `take`
    is called with every port statistics reply; it must not block.
    """

    def __init__(self, green: Any, loop: Any, hub: Any, take: Callable[[Reply], None]) -> None:
        self._green = green
        self._loop = loop
        self._passed = hub.Queue()
        self._nothing_passed = hub.QueueEmpty
        self._take = take
        self._rest = b""
        self._sending = 0
        self._listener = loop.add(loop.READ, green.fileno(), self._read, self._obsolete, self._end)

    def recv(self, _: int) -> bytes:
        """The next bytes that are not port statistics; empty at the end of the connection."""
        try:
            found: bytes = self._passed.get(timeout=self._green.gettimeout())
        except self._nothing_passed:
            raise TimeoutError from None
        return found

    def sendall(self, data: bytes) -> None:
        """Send for the framework; waits while the send buffer is full."""
        self._sending += 1
        try:
            self._green.sendall(data)
        finally:
            self._sending -= 1

    def send_now(self, data: bytes) -> bool:
        """Send a whole message without waiting; False, and nothing sent, when that is not possible."""
        if self._sending:
            return False
        try:
            sent = self._green.fd.send(data)  # the socket under the green one, which never waits
        except OSError:
            return False
        if sent < len(data):
            self._green.shutdown(socket.SHUT_RDWR)  # half a message was sent: the stream is unusable
        return bool(sent == len(data))

    def close(self) -> None:
        """End the connection from this side."""
        self._end()
        self._green.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._green, name)

    def _read(self, _: int) -> None:
        """Called by the event loop when data can be read."""
        try:
            chunk = self._green.fd.recv(READ_B)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._end()
            return
        found, others, self._rest = split_stream(self._rest + chunk)
        for message in found:
            self._take(Reply(message))
        if others:
            self._passed.put(others)

    def _end(self) -> None:
        """Stop reading; the framework sees the end of the connection after the bytes that it has not read yet."""
        if self._listener is not None:
            self._loop.remove(self._listener)
            self._listener = None
            self._passed.put(b"")

    def _obsolete(self, _: BaseException) -> None:
        """Called by the event loop when the descriptor now belongs to another socket."""
        self._end()
