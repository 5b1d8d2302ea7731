"""The receiver of background load: accepts TCP and UDP, counts the bytes and discards them."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import TYPE_CHECKING

from workers.loop import READABLE, Loop

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES = 1 << 20
WAKE_BYTES = 1 << 17
DATAGRAMS_PER_WAKE = 64
DATAGRAM_BUFFER_BYTES = 1 << 22  # 1.7 s at 20 Mbit/s while this process waits; the kernel may grant less

_discard = bytearray(READ_BYTES)  # never written to: MSG_TRUNC copies nothing


class Sink:
    """Counts and discards everything that arrives on the two sockets."""

    def __init__(self, loop: Loop, listener: socket.socket, datagrams: socket.socket) -> None:
        self._loop = loop
        self._listener = listener
        self._datagrams = datagrams
        self._received_bytes = 0
        self._streams: set[socket.socket] = set()
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DATAGRAM_BUFFER_BYTES)
        loop.watch(listener, READABLE, self._on_connection)
        loop.watch(datagrams, READABLE, self._on_datagrams)

    def count(self) -> int:
        """Bytes that have reached this host's kernel, including unread ones."""
        self._on_datagrams(READABLE)
        return self._received_bytes + sum(_unread(stream) for stream in self._streams)

    def _on_connection(self, _events: int) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError:  # no descriptor is left for it (accept(2)): it waits until the next one comes
                return
            stream.setblocking(False)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, WAKE_BYTES)
            self._streams.add(stream)
            self._loop.watch(stream, READABLE, self._reader(stream))

    def _reader(self, stream: socket.socket) -> Callable[[int], None]:
        def on_readable(_events: int) -> None:
            self._read(stream)

        return on_readable

    def _read(self, stream: socket.socket) -> None:
        try:
            count = stream.recv_into(_discard, READ_BYTES, socket.MSG_TRUNC)
        except BlockingIOError:
            return
        except OSError:
            count = 0  # the source stops with a reset
        if count == 0:
            self._loop.unwatch(stream)
            self._streams.discard(stream)
            stream.close()
        self._received_bytes += count

    def _on_datagrams(self, _events: int) -> None:
        try:
            for _ in range(DATAGRAMS_PER_WAKE):
                self._received_bytes += self._datagrams.recv_into(_discard, 1, socket.MSG_TRUNC)
        except BlockingIOError:
            return


def _unread(stream: socket.socket) -> int:
    """Bytes in the receive queue of a TCP socket: SIOCINQ, tcp(7)."""
    queued: int = struct.unpack("@i", fcntl.ioctl(stream.fileno(), termios.FIONREAD, bytes(4)))[0]
    return queued
