"""The host's network as one process of the sandbox may use it: to connect to a router under test, and for nothing else.

A sandbox has a loopback of its own. A socket belongs to the network namespace that it was made in (setns(2),
network_namespaces(7)): the driver enters the host's for as long as a connection is opened, and is back before it goes
on. The descriptor that this takes is closed in every process that the driver starts.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

OWN_NETWORK = "/proc/thread-self/ns/net"
CLONE_NEWNET = 0x40000000
"""linux/sched.h"""


class HostNetwork:
    """The network namespace behind a descriptor that was inherited."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor
        self._libc = ctypes.CDLL(None, use_errno=True)

    def dial(self, address: tuple[str, int], timeout_s: float) -> socket.socket:
        """A TCP connection within the host's network, as `socket.create_connection`. OSError when there is none."""
        with self._entered():
            return socket.create_connection(address, timeout_s)

    @contextmanager
    def _entered(self) -> Iterator[None]:
        """This thread, no other, is in the host's network namespace."""
        with open(OWN_NETWORK) as own:
            self._enter(self._descriptor)
            try:
                yield
            finally:
                self._enter(own.fileno())

    def _enter(self, descriptor: int) -> None:
        if self._libc.setns(descriptor, CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
