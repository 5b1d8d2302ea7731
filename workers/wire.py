"""The wire format of a KV transfer: one header, one payload and one acknowledgement for each stripe.

Pure packing and checking; sockets belong to `outbound` and `inbound`. A blob of `total_bytes` is cut into `stripes`
parts as even as possible (the first parts get the odd bytes), each sent on its own TCP connection:

    header   magic "NKV1" | version | stripe | stripes | persistent | request id | stripe bytes | total bytes | CRC-32
    payload  stripe bytes, content meaningless
    ack      magic "NKA1" | version | status | request id | bytes received            (receiver to sender)

All integers are big-endian and unsigned. CRC-32 is zlib's. `persistent` is 1 when the header of another request's
stripe may follow the ack on the same connection; otherwise it is 0 and nothing follows.
"""

from __future__ import annotations

import enum
import struct
import zlib
from typing import NamedTuple

HEADER_MAGIC = b"NKV1"
ACK_MAGIC = b"NKA1"
VERSION = 1
STRIPES_MAX = 1024

_HEADER = struct.Struct("!4sHHHHQQQ")
_CRC = struct.Struct("!I")
_ACK = struct.Struct("!4sHHQQ")
HEADER_BYTES = _HEADER.size + _CRC.size
ACK_BYTES = _ACK.size


class WireError(ValueError):
    """Bytes that do not conform to this protocol; the message is one line."""


class StripeStatus(enum.IntEnum):
    """The receiver's result for one stripe."""

    OK = 0
    BAD_HEADER = 1
    UNEXPECTED = 2  # the counts differ from what the driver or the other stripes announced, or the stripe arrived twice
    BROKEN = 3  # another stripe of the same blob failed, or this one sent the wrong number of bytes
    REFUSED = 4  # the request was cancelled or rejected


class Header(NamedTuple):
    """The announcement of one stripe of one request's KV blob."""

    request_id: int
    stripe: int
    stripes: int
    stripe_bytes: int
    total_bytes: int
    persistent: bool = False


class Ack(NamedTuple):
    """The receiver's acknowledgement of one stripe."""

    request_id: int
    received_bytes: int
    status: StripeStatus


def stripe_sizes(total_bytes: int, stripes: int) -> list[int]:
    """Cut a blob into `stripes` sizes that differ by at most one byte, larger ones first."""
    share, odd = divmod(total_bytes, stripes)
    return [share + 1] * odd + [share] * (stripes - odd)


def pack_header(header: Header) -> bytes:
    packed = _HEADER.pack(
        HEADER_MAGIC,
        VERSION,
        header.stripe,
        header.stripes,
        header.persistent,
        header.request_id,
        header.stripe_bytes,
        header.total_bytes,
    )
    return packed + _CRC.pack(zlib.crc32(packed))


def unpack_header(data: bytes) -> Header:
    """The header in exactly `HEADER_BYTES` bytes; `WireError` unless every field is right and fits the others."""
    if len(data) != HEADER_BYTES:
        raise WireError(f"a header has {HEADER_BYTES} bytes, not {len(data)}")
    magic, version, stripe, stripes, persistent, request_id, stripe_bytes, total_bytes = _HEADER.unpack_from(data)
    if magic != HEADER_MAGIC:
        raise WireError(f"header magic is {magic!r}, not {HEADER_MAGIC!r}")
    if version != VERSION:
        raise WireError(f"header version is {version}, not {VERSION}")
    if _CRC.unpack_from(data, _HEADER.size)[0] != zlib.crc32(data[: _HEADER.size]):
        raise WireError("header checksum does not match")
    if persistent > 1:
        raise WireError(f"header has persistent={persistent}, not 0 or 1")
    if not 0 < stripes <= STRIPES_MAX or stripe >= stripes:
        raise WireError(f"stripe {stripe} of {stripes} does not exist")
    if stripe_bytes != total_bytes // stripes + (stripe < total_bytes % stripes):
        raise WireError(f"stripe {stripe} of {stripes} cannot have {stripe_bytes} of {total_bytes} bytes")
    return Header(request_id, stripe, stripes, stripe_bytes, total_bytes, persistent == 1)


def pack_ack(ack: Ack) -> bytes:
    return _ACK.pack(ACK_MAGIC, VERSION, ack.status, ack.request_id, ack.received_bytes)


def unpack_ack(data: bytes) -> Ack:
    """The acknowledgement in exactly `ACK_BYTES` bytes; `WireError` if it is none."""
    if len(data) != ACK_BYTES:
        raise WireError(f"an ack has {ACK_BYTES} bytes, not {len(data)}")
    magic, version, status, request_id, received_bytes = _ACK.unpack(data)
    if magic != ACK_MAGIC or version != VERSION or status not in StripeStatus._value2member_map_:
        raise WireError(f"not an ack of version {VERSION}: {data[:8].hex()}")
    return Ack(request_id, received_bytes, StripeStatus(status))
