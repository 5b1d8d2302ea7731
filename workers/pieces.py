"""What prefill and decode say to each other when a transfer engine moves the bytes: a welcome, notices, acks.

Pure packing, checking and planning; connections and engine belong to `engine_sender` and `engine_receiver`. An engine
writes into memory of the other end without its knowledge, so that end is told out of band, as in SGLang and vLLM. On
the control stream, one TCP connection a pair of instances:

    welcome  magic "NKW1" | version | slots | RPC port | address of the zone | bytes of a slot | CRC-32  (from decode)
    notice   magic "NKP1" | version | slot | piece | pieces | checksum | request id | piece bytes | total bytes | CRC-32
    ack      as in `wire`, the request id and the bytes of the piece                                    (from decode)

A zone is registered memory that one prefill worker alone writes to and whose slots it manages by itself. A blob larger
than a slot is cut into pieces as even as possible. All integers are big-endian and unsigned. CRC-32 is zlib's; the
checksum is that of the piece's bytes as the sender wrote them.
"""

from __future__ import annotations

import heapq
import random
import struct
import zlib
from typing import NamedTuple

from workers.wire import WireError, stripe_sizes

WELCOME_MAGIC = b"NKW1"
NOTICE_MAGIC = b"NKP1"
VERSION = 1
PIECES_MAX = 1 << 20
SLOTS_MAX = 1024

_WELCOME = struct.Struct("!4sHHIQQ")
_NOTICE = struct.Struct("!4sHHIIIQQQ")
_CRC = struct.Struct("!I")
WELCOME_BYTES = _WELCOME.size + _CRC.size
NOTICE_BYTES = _NOTICE.size + _CRC.size

PATTERN_BYTES = 65_521
"""Contents repeat after so many bytes, a prime: equal stripes of a piece differ."""


class Welcome(NamedTuple):
    """Where a prefill worker may write: `slots` of `slot_bytes` from `zone`, an address in the decode worker's memory.

    rpc_port: where the engine of the decode worker answers; with its IPv4 address that names its segment.
    """

    slots: int
    rpc_port: int
    zone: int
    slot_bytes: int


class Notice(NamedTuple):
    """A piece of a blob is in its slot."""

    request_id: int
    slot: int
    piece: int
    pieces: int
    piece_bytes: int
    total_bytes: int
    checksum: int


def pack_welcome(welcome: Welcome) -> bytes:
    return _sealed(
        _WELCOME.pack(WELCOME_MAGIC, VERSION, welcome.slots, welcome.rpc_port, welcome.zone, welcome.slot_bytes)
    )


def unpack_welcome(data: bytes) -> Welcome:
    """The welcome in exactly `WELCOME_BYTES` bytes; `WireError` if it is none."""
    slots, rpc_port, zone, slot_bytes = _unsealed(data, _WELCOME, WELCOME_MAGIC, "welcome")
    if not 0 < slots <= SLOTS_MAX or not 0 < rpc_port < 1 << 16 or slot_bytes == 0:
        raise WireError(f"welcome to {slots} slots of {slot_bytes} bytes at port {rpc_port}")
    return Welcome(slots, rpc_port, zone, slot_bytes)


def pack_notice(notice: Notice) -> bytes:
    numbers = (notice.slot, notice.piece, notice.pieces, notice.checksum)
    return _sealed(
        _NOTICE.pack(NOTICE_MAGIC, VERSION, *numbers, notice.request_id, notice.piece_bytes, notice.total_bytes)
    )


def unpack_notice(data: bytes) -> Notice:
    """The notice in exactly `NOTICE_BYTES` bytes; `WireError` unless every field is right and fits the others."""
    slot, piece, pieces, checksum, request_id, piece_bytes, total_bytes = _unsealed(
        data, _NOTICE, NOTICE_MAGIC, "notice"
    )
    if not 0 < pieces <= PIECES_MAX or piece >= pieces:
        raise WireError(f"piece {piece} of {pieces} does not exist")
    if piece_bytes != total_bytes // pieces + (piece < total_bytes % pieces) or piece_bytes == 0:
        raise WireError(f"piece {piece} of {pieces} cannot have {piece_bytes} of {total_bytes} bytes")
    return Notice(request_id, slot, piece, pieces, piece_bytes, total_bytes, checksum)


def piece_sizes(total_bytes: int, slot_bytes: int) -> list[int]:
    """The fewest pieces that fit a slot each; their sizes differ by at most one byte."""
    return stripe_sizes(total_bytes, -(-total_bytes // slot_bytes)) if total_bytes else []


def writes_of(piece_bytes: int, stripes: int) -> list[tuple[int, int]]:
    """Offset and size of every write of a piece, one a stripe; a piece of fewer bytes than stripes has fewer."""
    found, offset = [], 0
    for size in stripe_sizes(piece_bytes, stripes):
        if size:
            found.append((offset, size))
        offset += size
    return found


def content_of(request_id: int, piece: int, piece_bytes: int) -> bytes:
    """Bytes that no other piece has, so that a checksum tells what has arrived from what was there before."""
    pattern = random.Random(request_id << 32 | piece).randbytes(min(PATTERN_BYTES, piece_bytes))
    return (pattern * -(-piece_bytes // max(len(pattern), 1)))[:piece_bytes]


class SlotPool:
    """Numbers of slots; the lowest free one is taken first, so that little memory is ever touched."""

    def __init__(self, count: int) -> None:
        self._free = list(range(count))

    def __bool__(self) -> bool:
        return bool(self._free)

    def take(self) -> int:
        return heapq.heappop(self._free)

    def give_back(self, slot: int) -> None:
        heapq.heappush(self._free, slot)


def _sealed(packed: bytes) -> bytes:
    return packed + _CRC.pack(zlib.crc32(packed))


def _unsealed(data: bytes, layout: struct.Struct, magic: bytes, what: str) -> tuple[int, ...]:
    """The fields after magic and version."""
    if len(data) != layout.size + _CRC.size:
        raise WireError(f"a {what} has {layout.size + _CRC.size} bytes, not {len(data)}")
    found, version, *fields = layout.unpack_from(data)
    if found != magic or version != VERSION:
        raise WireError(f"not a {what} of version {VERSION}: {data[:8].hex()}")
    if _CRC.unpack_from(data, layout.size)[0] != zlib.crc32(data[: layout.size]):
        raise WireError(f"the checksum of a {what} does not match")
    return tuple(fields)
