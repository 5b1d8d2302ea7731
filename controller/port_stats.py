"""Port statistics in OpenFlow 1.3: the request, and the replies among the other messages of a connection.

Pure: bytes in, counters out. `port_stats_tap` reads them from the connection.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from controller.counters import PortCounters

OPENFLOW_1_3 = 4
MULTIPART_REQUEST, MULTIPART_REPLY = 18, 19
PORT_STATS = 4
PORT_ANY = 0xFFFFFFFF
REPLY_MORE = 1
"""Of the OpenFlow Switch Specification 1.3: ofp_type, ofp_multipart_type, OFPP_ANY and OFPMPF_REPLY_MORE."""

HEADER = struct.Struct("!BBHI")
MULTIPART = struct.Struct("!BBHIHH4x")
REQUEST = struct.Struct("!BBHIHH4xI4x")
PORT = struct.Struct("!I20xQQ64xII")
"""ofp_port_stats: port, bytes received and sent, seconds and nanoseconds that it has been up."""


def request(transaction: int) -> bytes:
    """The request for the counters of all ports of a switch."""
    return REQUEST.pack(OPENFLOW_1_3, MULTIPART_REQUEST, REQUEST.size, transaction, PORT_STATS, 0, PORT_ANY)


class Reply:
    """One message of an answer: the `transaction` of its request, its `ports`, and whether `more` messages follow."""

    __slots__ = ("_body", "more", "transaction")

    def __init__(self, message: bytes) -> None:
        _, _, _, self.transaction, _, flags = MULTIPART.unpack_from(message)
        self.more = bool(flags & REPLY_MORE)
        self._body = message[MULTIPART.size :]

    def ports(self) -> Iterator[PortCounters]:
        """Counters in the order of the message."""
        for port, rx_bytes, tx_bytes, alive_s, alive_ns in PORT.iter_unpack(self._body):
            yield PortCounters(port, rx_bytes, tx_bytes, alive_s + alive_ns * 1e-9)


def split_stream(stream: bytes) -> tuple[list[bytes], bytes, bytes]:
    """Split a stream that starts at a message: port statistics, all other messages, and an incomplete last message.

    After a message with an impossible length the rest of the stream goes to the framework, which reports the error.
    """
    found: list[bytes] = []
    others, at = b"", 0
    while len(stream) - at >= HEADER.size:
        version, kind, length, _ = HEADER.unpack_from(stream, at)
        if length < HEADER.size:
            return found, others + stream[at:], b""
        if len(stream) - at < length:
            break
        message = stream[at : at + length]
        at += length
        if (version, kind) == (OPENFLOW_1_3, MULTIPART_REPLY) and _is_port_stats(message):
            found.append(message)
        else:
            others += message
    return found, others, stream[at:]


def _is_port_stats(message: bytes) -> bool:
    """Whether a multipart reply holds complete port counters."""
    body = len(message) - MULTIPART.size
    return body >= 0 and body % PORT.size == 0 and MULTIPART.unpack_from(message)[4] == PORT_STATS
