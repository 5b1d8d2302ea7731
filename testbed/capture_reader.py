"""Reads a capture: frames, bytes, retransmissions and round trips of every TCP connection that crossed the port.

Streams through the file with scapy's raw reader and takes four header fields from each frame; scapy's full dissection
takes about 45 times as long. A segment that was lost before the port appears once in the capture; its retransmission is
recognised because it comes after later segments. Only the last segments of a connection can be missed.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from scapy.error import Scapy_Exception
from scapy.utils import RawPcapReader

from testbed.errors import TestbedError
from workers import HEADER_BYTES, HEADER_MAGIC, WireError, unpack_header

ETHERNET_B = 14
IPV4, TCP = b"\x08\x00", 6
SYN, ACK = 0x02, 0x10
TCP_FIELDS = struct.Struct("!HHIIH")
"""Ports, sequence and acknowledgement number, header length and flags (RFC 9293)."""

SEQUENCES = 1 << 32


class Endpoints(NamedTuple):
    """Addresses as dotted quads; the source is the side that sends the data."""

    source: str
    source_port: int
    target: str
    target_port: int


@dataclass
class Conversation:
    """What one connection, or one transfer on a persistent connection, sent through one port.

    From the source's side: its `frames` and `frame_bytes` on the wire, `retransmitted` of them, and a round trip, port
    to target and back, a segment that was acknowledged by itself (`round_trip_s`). Segments that were in flight during
    a retransmission give no round trip (Karn's rule, RFC 6298). `request_id`: of the header that a transfer
    begins with; None where none was seen.
    """

    endpoints: Endpoints
    first_sequence: int
    request_id: int | None = None
    frames: int = 0
    frame_bytes: int = 0
    retransmitted: int = 0
    round_trip_s: list[float] = field(default_factory=list)
    _highest: int = field(init=False)
    _in_flight: deque[tuple[int, float]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._highest = self.first_sequence

    def next_transfer(self, request_id: int) -> Conversation:
        """The next transfer on the same connection, which starts with the header of another request."""
        return Conversation(self.endpoints, self._highest, request_id)

    def sent(self, at_s: float, sequence: int, length: int, frame_bytes: int) -> None:
        """A frame from the source with `length` sequence numbers."""
        self.frames += 1
        self.frame_bytes += frame_bytes
        if not length:
            return
        end = sequence + length
        if _ahead(end, self._highest) <= 0:
            self.retransmitted += 1
            self._in_flight.clear()
        else:
            self._highest = end % SEQUENCES
            self._in_flight.append((self._highest, at_s))

    def acknowledged(self, at_s: float, number: int) -> None:
        """A frame from the target that acknowledges up to `number`."""
        latest_s = None
        while self._in_flight and _ahead(number, self._in_flight[0][0]) >= 0:
            _, latest_s = self._in_flight.popleft()
        if latest_s is not None:
            self.round_trip_s.append(at_s - latest_s)


class Segment(NamedTuple):
    """The fields of a captured TCP segment that are used; addresses are packed."""

    at_s: float
    source: bytes
    source_port: int
    target: bytes
    target_port: int
    sequence: int
    acknowledgement: int
    flags: int
    payload_bytes: int
    frame_bytes: int
    payload_begins: bytes


def read_capture(file: Path, listening: frozenset[int]) -> list[Conversation]:
    """Every connection to one of the `listening` ports, in order of its start. TestbedError when it is no capture.

    A reused pair of ports is another conversation, and so is every transfer on a persistent connection.
    """
    found: list[Conversation] = []
    current: dict[tuple[bytes, int, bytes, int], Conversation] = {}
    for segment in segments(file):
        if segment.target_port in listening:
            key = (segment.source, segment.source_port, segment.target, segment.target_port)
            opens = bool(segment.flags & SYN)
            known = current.get(key)
            if known is None or (opens and segment.sequence != known.first_sequence):
                known = current[key] = Conversation(_endpoints(key), segment.sequence)
                found.append(known)
            request_id = _announced(segment.payload_begins)
            if request_id is not None and known.request_id is None:
                known.request_id = request_id
            elif request_id is not None and known.request_id != request_id:
                known = current[key] = known.next_transfer(request_id)
                found.append(known)
            known.sent(segment.at_s, segment.sequence, segment.payload_bytes + opens, segment.frame_bytes)
        elif segment.source_port in listening and segment.flags & ACK:
            key = (segment.target, segment.target_port, segment.source, segment.source_port)
            if key in current:
                current[key].acknowledged(segment.at_s, segment.acknowledgement)
    return found


def segments(file: Path) -> Iterator[Segment]:
    """The TCP segments of a capture of Ethernet frames, in order. TestbedError when it is none."""
    try:
        with RawPcapReader(str(file)) as reader:
            for data, meta in reader:
                if data[12:14] != IPV4 or data[23] != TCP:
                    continue
                tcp_at = ETHERNET_B + (data[14] & 15) * 4
                ports_and_numbers = TCP_FIELDS.unpack_from(data, tcp_at)
                source_port, target_port, sequence, acknowledgement, length_and_flags = ports_and_numbers
                payload_at = tcp_at + (length_and_flags >> 12) * 4
                yield Segment(
                    meta.sec + meta.usec / 1e6,
                    data[26:30],
                    source_port,
                    data[30:34],
                    target_port,
                    sequence,
                    acknowledgement,
                    length_and_flags & 0x3F,
                    (data[16] << 8 | data[17]) + ETHERNET_B - payload_at,
                    meta.wirelen,
                    data[payload_at : payload_at + HEADER_BYTES],
                )
    except (OSError, Scapy_Exception, struct.error, IndexError, EOFError) as problem:
        raise TestbedError(f"{file}: not a capture: {problem}") from None


def _announced(payload_begins: bytes) -> int | None:
    """The request whose stripe begins here; None for any other bytes."""
    try:
        return unpack_header(payload_begins).request_id if payload_begins.startswith(HEADER_MAGIC) else None
    except WireError:
        return None


def _endpoints(key: tuple[bytes, int, bytes, int]) -> Endpoints:
    source, source_port, target, target_port = key
    return Endpoints(".".join(map(str, source)), source_port, ".".join(map(str, target)), target_port)


def _ahead(one: int, other: int) -> int:
    """How far a sequence number is ahead of another, negative behind it; they wrap (RFC 9293, section 3.4)."""
    return (one - other + SEQUENCES // 2) % SEQUENCES - SEQUENCES // 2
