"""A tap on a switch's connection: port statistics go straight to telemetry, everything else to the framework.

The framework waits, reads a header, reads a body, builds an object a port and an event a reply, and hands it over in a
queue, which is most of what polling costs (docs/oracle.md). A tap reads once, whenever something is there, in the event
loop itself. It needs what both drivers stand on: eventlet's loop and sockets.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from controller.port_stats import Reply, sort_out

READ_B = 1 << 16
"""More than the replies of any switch of ours, in one read."""


class PortStatsTap:
    """Stands in for the socket of a connection, from the start of a message on.

    `green` is eventlet's socket, `loop` its event loop, `hub` the driver's module of that name, for its queue. `take`
    gets every reply with port statistics; it must not block.
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
        """The next that is not port statistics, as much as came at once; empty at the end of the connection."""
        try:
            found: bytes = self._passed.get(timeout=self._green.gettimeout())
        except self._nothing_passed:
            raise TimeoutError from None
        return found

    def sendall(self, data: bytes) -> None:
        """The framework's way to send: waits for room."""
        self._sending += 1
        try:
            self._green.sendall(data)
        finally:
            self._sending -= 1

    def send_now(self, data: bytes) -> bool:
        """Send a message at once and whole; False when that cannot be, and then nothing of it is sent."""
        if self._sending:
            return False
        try:
            sent = self._green.fd.send(data)  # the socket under the green one, which never waits
        except OSError:
            return False
        if sent < len(data):
            self._green.shutdown(socket.SHUT_RDWR)  # half a message: nothing that makes sense can follow it
        return bool(sent == len(data))

    def close(self) -> None:
        """End the connection from this side."""
        self._end()
        self._green.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._green, name)

    def _read(self, _: int) -> None:
        """Called by the event loop: something can be read."""
        try:
            chunk = self._green.fd.recv(READ_B)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._end()
            return
        found, others, self._rest = sort_out(self._rest + chunk)
        for message in found:
            self._take(Reply(message))
        if others:
            self._passed.put(others)

    def _end(self) -> None:
        """Stop reading; the framework gets the end of the connection after what it has not read yet."""
        if self._listener is not None:
            self._loop.remove(self._listener)
            self._listener = None
            self._passed.put(b"")

    def _obsolete(self, _: BaseException) -> None:
        """The event loop found that the descriptor is somebody else's by now."""
        self._end()
