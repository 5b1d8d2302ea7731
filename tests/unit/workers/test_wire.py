"""The wire format: what is packed comes back, whatever is damaged is refused."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.wire import (
    ACK_BYTES,
    HEADER_BYTES,
    STRIPES_MAX,
    Ack,
    Header,
    StripeStatus,
    WireError,
    pack_ack,
    pack_header,
    stripe_sizes,
    unpack_ack,
    unpack_header,
)

U64 = st.integers(0, 2**64 - 1)
STRIPES = st.integers(1, STRIPES_MAX)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    stripes, total_bytes = draw(STRIPES), draw(U64)
    stripe = draw(st.integers(0, stripes - 1))
    sizes = stripe_sizes(total_bytes, stripes)
    return Header(draw(U64), stripe, stripes, sizes[stripe], total_bytes, draw(st.booleans()))


def resealed(data: bytes) -> bytes:
    """The same header with a right checksum, so that the fields themselves are judged."""
    return data[:-4] + struct.pack("!I", zlib.crc32(data[:-4]))


@given(U64, STRIPES)
def test_stripes_are_even_and_add_up(total_bytes: int, stripes: int) -> None:
    sizes = stripe_sizes(total_bytes, stripes)
    assert sum(sizes) == total_bytes
    assert len(sizes) == stripes
    assert max(sizes) - min(sizes) <= 1


def test_the_first_stripes_get_the_odd_bytes() -> None:
    assert stripe_sizes(10, 4) == [3, 3, 2, 2]


@given(headers())
def test_a_header_comes_back(header: Header) -> None:
    packed = pack_header(header)
    assert len(packed) == HEADER_BYTES
    assert unpack_header(packed) == header


@given(headers(), st.integers(0, HEADER_BYTES * 8 - 1))
def test_any_flipped_bit_is_noticed(header: Header, bit: int) -> None:
    damaged = bytearray(pack_header(header))
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(WireError):
        unpack_header(bytes(damaged))


@given(st.binary(max_size=2 * HEADER_BYTES))
def test_noise_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(WireError, match=r"^[^\n]+$"):
        unpack_header(data)


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        (Header(7, 4, 4, 25, 100), "stripe 4 of 4 does not exist"),
        (Header(7, 0, 0, 25, 100), "stripe 0 of 0 does not exist"),
        (Header(7, 0, STRIPES_MAX + 1, 0, 0), "does not exist"),
        (Header(7, 1, 4, 26, 100), "cannot have 26 of 100 bytes"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(header: Header, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        unpack_header(pack_header(header))


@pytest.mark.parametrize(("position", "complaint"), [(0, "magic"), (5, "version")])
def test_another_protocol_or_version_is_named(position: int, complaint: str) -> None:
    data = bytearray(pack_header(Header(7, 0, 1, 100, 100)))
    data[position] ^= 0xFF
    with pytest.raises(WireError, match=complaint):
        unpack_header(resealed(bytes(data)))


@given(U64, U64, st.sampled_from(StripeStatus))
def test_an_ack_comes_back(request_id: int, received_bytes: int, status: StripeStatus) -> None:
    ack = Ack(request_id, received_bytes, status)
    packed = pack_ack(ack)
    assert len(packed) == ACK_BYTES
    assert unpack_ack(packed) == ack


@given(st.binary(max_size=2 * ACK_BYTES))
def test_noise_is_no_ack(data: bytes) -> None:
    with pytest.raises(WireError):
        unpack_ack(data)
