"""How a worker opens a TCP stream to another one: source address and port, send buffer, congestion control, a reset.

Shared by KV transfers and background flows, so that both compete under the same rules. Congestion control is set for
each socket: as a namespace's default only the names in the host's tcp_allowed_congestion_control are accepted, while a
socket of root accepts every algorithm of the kernel.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from topologies import fair_queue
from workers.fair_queues import FairQueues

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

ABORT = struct.pack("@ii", 1, 0)  # struct linger, socket(7): close sends RST and drops what is queued
FIRST_PORT, PORTS = 16_384, 49_152
PORT_ATTEMPTS = 8
PORT_TAKEN = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)
IP_BIND_ADDRESS_NO_PORT = 24  # ip(7): choose the port at connect, when the whole 4-tuple is known
TCP_CONGESTION_NAME_BYTES = 16  # linux/tcp.h, TCP_CA_NAME_MAX
TCP_INFO = struct.Struct("@100xI44xI")
"""linux/tcp.h: tcpi_total_retrans after 8 bytes and 23 words, tcpi_min_rtt after 4 long words and 3 words more."""


KEEPALIVE_S = 8
"""Keepalive interval of idle persistent connections (tcp(7)). Open vSwitch removes a connection's cached flow after ten
idle seconds (max-idle, ovs-vswitchd.conf.db(5)); every switch of the path would have to set it up again."""

SO_MAX_PACING_RATE = 47
"""asm-generic/socket.h; bytes per second, 64 bits since Linux 4.20. Without the fq queueing discipline TCP paces by
itself (since 4.13)."""


class StreamOptions(NamedTuple):
    """Options of every outgoing stream of a worker; None leaves the kernel's default.

    With a `port_seed` a stream's source port, and by that its ECMP path, depends on nothing but the seed, both
    addresses, its slot and its stripe: runs of one seed have the same paths, whatever their policies decide. With
    `queues` as well it is a port of the queue that the stream should have by the run's placement.
    """

    source_address: str | None = None
    send_buffer_bytes: int | None = None
    congestion_control: str | None = None
    pace_bps: float | None = None
    port_seed: int | None = None
    queues: FairQueues | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> StreamOptions:
        return cls(
            arguments.address,
            arguments.stripe_buffer_bytes,
            arguments.congestion_control,
            arguments.pace_bps,
            arguments.port_seed,
            arguments.fair_queues,
        )

    def connect(self, address: tuple[str, int], slot: int, stripe: int) -> socket.socket:
        """A non-blocking TCP socket that is connecting to `address`; OSError if that cannot be started.

        `slot` numbers the bundles of streams to one address, `stripe` those of a bundle.
        """
        for port in self._ports(address, slot, stripe):
            try:
                return self._connect(address, port)
            except OSError as error:  # the same two ends are still connected, or were until a moment ago
                if error.errno not in PORT_TAKEN:
                    raise
        return self._connect(address, 0)

    def bind_datagrams(self, sock: socket.socket, address: tuple[str, int], slot: int, stripe: int) -> None:
        """Bind a UDP socket to the port that a stream of that name would have."""
        for port in self._ports(address, slot, stripe):
            try:
                sock.bind((self.source_address or "", port))
                return
            except OSError as error:
                if error.errno not in PORT_TAKEN:
                    raise
        if self.source_address is not None:
            sock.bind((self.source_address, 0))

    def _ports(self, address: tuple[str, int], slot: int, stripe: int) -> Iterator[int]:
        """The source ports to try in turn; none without a seed."""
        if self.port_seed is None:
            return
        named = (self.port_seed, self.source_address, address, slot, stripe)
        for attempt in range(PORT_ATTEMPTS):
            port = source_port(*named, attempt)
            if self.queues is not None and self.source_address is not None:
                queue = self.queues.wanted(self.source_address, address[0], slot, stripe)
                port = port_of_queue(port, self.source_address, address, queue, self.queues.of)
            yield port

    def _connect(self, address: tuple[str, int], port: int) -> socket.socket:
        sock = self._socket(port)
        try:
            error_number = sock.connect_ex(address)
            if error_number not in (0, errno.EINPROGRESS):
                raise OSError(error_number, os.strerror(error_number))
        except OSError:
            sock.close()
            raise
        return sock

    def congestion_control_in_force(self) -> str:
        """The name of the algorithm that streams will use; OSError if the kernel refuses an option."""
        with self._socket() as sock:
            name = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, TCP_CONGESTION_NAME_BYTES)
        return name.split(b"\0")[0].decode()

    def tune(self, sock: socket.socket) -> None:
        """Set what the options say of sending, also on a stream that another library has opened."""
        # Without it Nagle would hold back the last short segment until everything before it is acknowledged.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.send_buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer_bytes)
        if self.congestion_control is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, self.congestion_control.encode())
        if self.pace_bps is not None:
            pace_Bps = max(round(self.pace_bps / 8), 1)
            sock.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("@Q", pace_Bps))

    def _socket(self, port: int = 0) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            self.tune(sock)
            if port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # others may use it towards other hosts
                sock.bind((self.source_address or "", port))
            elif self.source_address is not None:
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((self.source_address, 0))
        except OSError:
            sock.close()
            raise
        return sock


def source_port(seed: int, source: str | None, address: tuple[str, int], slot: int, stripe: int, attempt: int) -> int:
    """The source port of a stream, `FIRST_PORT` and above: a hash of all that names the stream.

    CRC-32, mixed by Fibonacci hashing (Knuth, The Art of Computer Programming, 6.4), because the names differ little.
    """
    mixed = zlib.crc32(f"{seed} {source} {address} {slot} {stripe} {attempt}".encode()) * 0x9E3779B1 % 2**32
    return FIRST_PORT + mixed * PORTS // 2**32


def port_of_queue(first: int, source: str, address: tuple[str, int], queue: int, queues: int) -> int:
    """The first port from `first` on, round and round, of a queue of fair ports; about as many tries as queues."""
    for step in range(PORTS):
        port = FIRST_PORT + (first - FIRST_PORT + step) % PORTS
        if fair_queue(source, address[0], port, address[1], queues) == queue:
            return port
    raise AssertionError(f"no port has queue {queue}")


class ConnectionState(NamedTuple):
    """What the kernel tells of a connection: segments retransmitted so far, and its least round trip, seconds."""

    retransmitted: int
    least_round_trip_s: float

    @classmethod
    def of(cls, sock: socket.socket) -> ConnectionState:
        """TCP_INFO, tcp(7)."""
        found = TCP_INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size))
        return cls(found[0], found[1] / 1e6)


def queues_of(text: str) -> FairQueues:
    """`FIRST:NUMBER:OF` or `FIRST:NUMBER:OF:SOURCE,SOURCE:TARGET,TARGET`; ValueError for what is neither."""
    first, number, of, *ends = text.split(":")
    sources, targets = (tuple(end.split(",")) for end in ends) if ends else ((), ())
    return FairQueues(int(first), int(number), int(of), sources, targets)


def keep_alive(sock: socket.socket) -> None:
    """Have a connection that is kept say every `KEEPALIVE_S` that it is there."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Of both ends of a KV transfer; a transfer engine needs the installed packages, our own sockets do not."""
    parser.add_argument("--engine", choices=("sockets", "mooncake"), default="sockets", help="default: %(default)s")
    parser.add_argument("--lanes", type=int, default=4, help="connections to a peer (default: %(default)s)")
    parser.add_argument(
        "--slot-bytes",
        type=int,
        default=1 << 22,
        help="of an engine's registered memory: larger blobs go in pieces (default: %(default)s)",
    )


def add_stream_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stripe-buffer-bytes", type=int, help="SO_SNDBUF of each stream (default: automatic)")
    parser.add_argument("--congestion-control", help="cubic, reno, bbr, ... (default: the namespace's)")
    parser.add_argument("--port-seed", type=int, help="derive source ports from it (default: ephemeral ones)")
    parser.add_argument(
        "--fair-queues",
        type=queues_of,
        help="FIRST:NUMBER:OF[:SOURCE,...:TARGET,...]: choose source ports by queues of fair ports (default: do not)",
    )
    parser.add_argument("--pace-bps", type=float, help="most that each stream sends, bit/s (default: no limit)")
