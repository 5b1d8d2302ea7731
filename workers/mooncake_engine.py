"""Mooncake's transfer engine (PyPI mooncake-transfer-engine-non-cuda) over TCP: the one module that knows the package.

Registers one piece of memory and writes from it into registered memory of other processes. There is no descriptor to
wait on: whoever submitted a write asks again and again. The engine opens its own connections, at most `lanes` to a
peer, each for one write at a time, and keeps them; they are found among this process's descriptors, where they get the
options of our own streams and tell source ports and retransmissions. It listens on all addresses of its namespace.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from workers.streams import ConnectionState, keep_alive

if TYPE_CHECKING:
    from workers.streams import StreamOptions

HEADER_BYTES = 24
"""tcp_transport_session_impl.h of Mooncake, SessionHeader: before the bytes of every write."""

TCP_ESTABLISHED = 1
"""linux/tcp_states.h; the first byte of TCP_INFO. What a peer has closed, the engine keeps until it needs it."""

SETTINGS = {
    "MC_FORCE_TCP": "1",  # no search for other devices
    "MC_TCP_ENABLE_CONNECTION_POOL": "1",
    "GLOG_minloglevel": "1",  # warnings and errors
    "GLOG_logtostderr": "1",
}


class EngineError(RuntimeError):
    """The engine cannot be loaded or started; the message is one line."""


class Write(NamedTuple):
    """Addresses in this process and in the peer's."""

    local: int
    remote: int
    size: int


class Lane(NamedTuple):
    """A connection of the engine, as the kernel knows it."""

    source_port: int
    target_port: int
    state: ConnectionState


class Engine(Protocol):
    """What the workers need of a transfer engine. `memory` is registered with it, from the address `base` on."""

    memory: memoryview
    base: int
    rpc_port: int

    def submit(self, segment: str, writes: list[Write]) -> list[int]:
        """Begin to write, one write after another and none of others between; a handle of each for `check`, 0 where it
        is refused. May wait for a peer not yet known."""
        ...

    def check(self, handle: int) -> int:
        """1: the peer's memory holds the bytes. 0: under way. Below: failed. A handle that has ended is gone."""
        ...

    def lanes(self, host: str, but: tuple[int, ...]) -> list[Lane]:
        """The established connections to a peer, by source port; `but` are ports of the peer that take no blobs."""
        ...


def load_package(lanes: int) -> Any:
    """The package's TransferEngine, which is to open so many connections to a peer. EngineError when it is not there.

    Reads its files, so it comes before a worker gives up its privileges.
    """
    os.environ.update(SETTINGS, MC_TCP_LANES_PER_PEER=str(lanes))
    try:
        from mooncake.engine import TransferEngine
    except ImportError as problem:
        remedy = "apt-get install libibverbs1 libnuma1 libcurl4 libssl3, or `make routers`"
        raise EngineError(f"serving.engine: mooncake: mooncake.engine does not load: {problem}: {remedy}") from None
    return TransferEngine


class MooncakeEngine:
    """The engine of one worker: `memory` of `size` bytes, registered once. EngineError when it does not start."""

    def __init__(self, package: Any, address: str, size: int, options: StreamOptions) -> None:
        self._engine = package()
        self._options = options
        self._submitting = threading.Lock()
        if self._engine.initialize(address, "P2PHANDSHAKE", "tcp", "") != 0:
            raise EngineError(f"mooncake: the engine does not start on {address}")
        self.rpc_port: int = self._engine.get_rpc_port()
        pages = mmap.mmap(-1, size)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        self.memory = memoryview(pages)
        if self._engine.register_memory(self.base, size) != 0:
            raise EngineError(f"mooncake: {size} bytes of memory cannot be registered")

    def submit(self, segment: str, writes: list[Write]) -> list[int]:
        # A batch of its own for each write: of a larger one the package tells nobody how it stands without spinning.
        with self._submitting:
            return [self._engine.transfer_submit_write(segment, *write) for write in writes]

    def check(self, handle: int) -> int:
        status: int = self._engine.transfer_check_status(handle)
        return status

    def lanes(self, host: str, but: tuple[int, ...]) -> list[Lane]:
        found = []
        for sock in _own_sockets():
            with suppress(OSError):  # it is being closed
                peer = sock.getpeername()
                established = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_ESTABLISHED
                if established and peer[0] == host and peer[1] not in but:
                    self._options.tune(sock)
                    keep_alive(sock)
                    found.append(Lane(sock.getsockname()[1], peer[1], ConnectionState.of(sock)))
        return sorted(found)


def _own_sockets() -> Iterator[socket.socket]:
    """Every IPv4 TCP socket that this process has open, whoever opened it; it stays open."""
    for name in os.listdir("/proc/self/fd"):  # its own is allowed to a process whatever it has given up
        try:
            sock = socket.socket(fileno=int(name))
        except OSError:
            continue
        try:
            if sock.family is socket.AF_INET and sock.type is socket.SOCK_STREAM:
                yield sock
        finally:
            sock.detach()
