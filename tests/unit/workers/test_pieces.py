"""What both ends of an engine's transfer say to each other, and how a blob becomes pieces and writes."""

from __future__ import annotations

import zlib

import pytest

from workers.pieces import (
    NOTICE_BYTES,
    WELCOME_BYTES,
    Notice,
    SlotPool,
    Welcome,
    content_of,
    pack_notice,
    pack_welcome,
    piece_sizes,
    unpack_notice,
    unpack_welcome,
    writes_of,
)
from workers.wire import WireError

WELCOME = Welcome(slots=4, rpc_port=15_000, zone=0x7F00_0000_0000, slot_bytes=1 << 22)
NOTICE = Notice(
    request_id=1 << 40, slot=3, piece=1, pieces=2, piece_bytes=4, total_bytes=9, checksum=zlib.crc32(b"four")
)


def test_what_is_packed_is_unpacked() -> None:
    assert unpack_welcome(pack_welcome(WELCOME)) == WELCOME
    assert unpack_notice(pack_notice(NOTICE)) == NOTICE
    assert (len(pack_welcome(WELCOME)), len(pack_notice(NOTICE))) == (WELCOME_BYTES, NOTICE_BYTES)


@pytest.mark.parametrize("at", range(NOTICE_BYTES))
def test_a_notice_with_any_byte_changed_is_refused(at: int) -> None:
    data = bytearray(pack_notice(NOTICE))
    data[at] ^= 1
    with pytest.raises(WireError):
        unpack_notice(bytes(data))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"piece": 2}, "piece 2 of 2 does not exist"),
        ({"pieces": 0}, "of 0 does not exist"),
        ({"piece_bytes": 5}, "cannot have 5 of 9 bytes"),
        ({"piece_bytes": 0, "total_bytes": 0}, "cannot have 0 of 0 bytes"),
    ],
)
def test_numbers_that_do_not_fit_each_other_are_refused(changed: dict[str, int], said: str) -> None:
    with pytest.raises(WireError, match=said):
        unpack_notice(pack_notice(NOTICE._replace(**changed)))


@pytest.mark.parametrize("changed", [{"slots": 0}, {"slots": 1025}, {"rpc_port": 0}, {"slot_bytes": 0}])
def test_a_welcome_to_nothing_is_refused(changed: dict[str, int]) -> None:
    with pytest.raises(WireError, match="welcome to"):
        unpack_welcome(pack_welcome(WELCOME._replace(**changed)))


@pytest.mark.parametrize("total", [1, 2, 7, 4096, 4097, 1_000_003])
@pytest.mark.parametrize("slot", [1, 4096, 1 << 22])
def test_pieces_are_the_fewest_that_fit_and_lose_no_byte(total: int, slot: int) -> None:
    sizes = piece_sizes(total, slot)
    assert sum(sizes) == total
    assert max(sizes) <= slot
    assert len(sizes) == -(-total // slot)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("size", "stripes", "count"), [(10, 4, 4), (4, 4, 4), (3, 4, 3), (1, 16, 1), (100, 1, 1)])
def test_writes_cover_a_piece_without_gap_or_overlap(size: int, stripes: int, count: int) -> None:
    writes = writes_of(size, stripes)
    assert len(writes) == count
    assert [at for at, _ in writes] == [sum(length for _, length in writes[:number]) for number in range(count)]
    assert sum(length for _, length in writes) == size


def test_no_two_pieces_have_the_same_content_nor_two_stripes_of_one() -> None:
    known = {content_of(request, piece, 200_000) for request in (0, 1, 1 << 40) for piece in (0, 1)}
    assert len(known) == 6
    assert content_of(3, 1, 200_000) == content_of(3, 1, 200_000)
    content = content_of(3, 1, 400_000)
    assert len({content[at : at + 100_000] for at in range(0, 400_000, 100_000)}) == 4
    assert [len(content_of(3, 1, size)) for size in (1, 65_521, 65_522)] == [1, 65_521, 65_522]


def test_the_lowest_free_slot_is_taken_first() -> None:
    slots = SlotPool(3)
    assert [slots.take(), slots.take()] == [0, 1]
    slots.give_back(0)
    assert [slots.take(), slots.take()] == [0, 2]
    assert not slots
