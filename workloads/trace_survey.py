"""What a trace leaves unsaid, worked out from its first records: unit of time, tokens of a block.

A documented meaning is kept unless the records prove or all but prove another, and whatever is decided is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workloads.trace_formats import PER_SECOND, Format, Record

NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

EPOCH_S = (1.2e9, 2.6e9)
"""Seconds since 1970 of the years 2008 to 2052: a first stamp in this range, in some unit, is a date."""

BELIEVABLE_RPS = (0.002, 100.0)
"""Mean rates of a trace, requests/s. Public traces have 0.2 to 30; a mistaken unit is a thousand times off."""

BRISK_RPS = 20.0
"""A rate above this, requests/s, is worth a word, and with stamps that are no whole numbers it is not believable."""

FEWEST = 8
"""Requests that tell a rate: fewer may be a small burst, or a few far apart, that somebody means."""

LARGEST_BLOCK = 4096
"""Tokens of the largest block that is looked for."""


@dataclass(frozen=True)
class Clock:
    """How stamps become seconds: `origin` is taken off, and `unit` divided out. `note`: what was decided, or ""."""

    unit: str
    origin: float = 0
    note: str = ""

    def seconds(self, stamp: float) -> float:
        return (stamp - self.origin) / PER_SECOND[self.unit]


def clock_of(records: Sequence[Record], form: Format, given: str | None) -> Clock:
    """The clock of a trace that begins with `records`; `given`: the unit, where it is known."""
    stamps = [record.stamp for record in records]
    first, span = min(stamps), max(stamps) - min(stamps)
    if form.dated:
        return Clock(form.time_unit, first)
    if given is not None:
        return Clock(given, first if _is_date(first, given) else 0)
    for unit in PER_SECOND:
        if _is_date(first, unit):
            return Clock(unit, first, f"time stamps are {NAMES[unit]} since 1970; the first one is t = 0")
    unit = form.time_unit
    if not span or len(stamps) < 2:
        return Clock(unit)

    def rate_rps(candidate: str) -> float:
        return (len(stamps) - 1) * PER_SECOND[candidate] / span

    low, high = BELIEVABLE_RPS
    whole = all(stamp % 1 == 0 for stamp in stamps)
    if low <= rate_rps(unit) <= (high if whole or unit == "s" else BRISK_RPS):
        doubt = rate_rps(unit) > BRISK_RPS and len(stamps) >= FEWEST
        return Clock(unit, note=_doubt(unit, rate_rps(unit)) if doubt else "")
    keep = f"--set workload.time_unit={unit} keeps {NAMES[unit]}"
    other = next((one for one in PER_SECOND if low <= rate_rps(one) <= high), None)
    sure = len(stamps) >= FEWEST or (form.time_unit == "s" and whole)
    if other is None or not sure:
        return Clock(unit, note=_doubt(unit, rate_rps(unit)))
    return Clock(
        other,
        note=f"time stamps read as {NAMES[other]}, {_rate(rate_rps(other))}: as {NAMES[unit]} they would be"
        f" {_rate(rate_rps(unit))} ({keep})",
    )


def _doubt(unit: str, rate_rps: float) -> str:
    remedy = f"set workload.time_unit to one of {', '.join(PER_SECOND)}"
    return f"time stamps read as {NAMES[unit]}: {_rate(rate_rps)}; if that is wrong, {remedy}"


def block_tokens_of(records: Sequence[Record], form: Format) -> tuple[int, str]:
    """Tokens of a block, and what proves it where it is not the documented number.

    n ids of a prompt of L tokens are ceil(L / block) or, where only full blocks have one, floor(L / block).
    """
    expected = form.block_tokens
    counted = [(record.input_length, len(record.block_ids), record.line) for record in records if record.block_ids]
    if not counted or any(all(fits(*one[:2], expected) for one in counted) for fits in (_all_blocks, _full_blocks)):
        return expected, ""
    telling = max(counted, key=lambda one: one[1])
    if telling[1] < 2:
        return expected, ""
    for fits, range_of in ((_all_blocks, _range_all), (_full_blocks, _range_full)):
        low = max(range_of(length, count)[0] for length, count, _ in counted)
        high = min(range_of(length, count)[1] for length, count, _ in counted)
        size = _roundest(low, min(high, LARGEST_BLOCK))
        if size is not None and size > expected and sum(count > 1 for _, count, _ in counted) < FEWEST:
            return expected, ""  # prompts of which only the beginning has ids look like this
        if size is not None and all(fits(length, count, size) for length, count, _ in counted):
            return size, _why(size, expected, telling)
    usual = [(sum(_all_blocks(*one[:2], size) for one in counted), size) for size in _powers_of_two()]
    fitting, size = max(usual)
    if size != expected and fitting >= 0.9 * len(counted) and len(counted) >= FEWEST:
        return size, _why(size, expected, telling)
    return expected, ""


def _why(size: int, expected: int, telling: tuple[int, int, int]) -> str:
    length, count, line = telling
    return f"a block has {size} tokens, not {expected}: line {line} has {count} hash_ids for {length} tokens"


def _all_blocks(length: int, count: int, size: int) -> bool:
    return count == -(-length // size)


def _full_blocks(length: int, count: int, size: int) -> bool:
    return count == length // size


def _range_all(length: int, count: int) -> tuple[int, int]:
    """The block sizes of which `count` cover `length` tokens, the last one perhaps in part."""
    return -(-length // count), (length - 1) // (count - 1) if count > 1 else LARGEST_BLOCK


def _range_full(length: int, count: int) -> tuple[int, int]:
    """The block sizes of which `count` fit into `length` tokens."""
    return length // (count + 1) + 1, length // count


def _powers_of_two() -> list[int]:
    return [1 << k for k in range(LARGEST_BLOCK.bit_length())]


def _roundest(low: int, high: int) -> int | None:
    """The number from `low` to `high` that the highest power of two divides."""
    for step in reversed(_powers_of_two()):
        if (found := -(-low // step) * step) <= high and found > 0:
            return found
    return None


def _is_date(stamp: float, unit: str) -> bool:
    return EPOCH_S[0] <= stamp / PER_SECOND[unit] <= EPOCH_S[1]


def _rate(rate_rps: float) -> str:
    return f"{rate_rps:,.0f} requests/s" if rate_rps >= 10 else f"{rate_rps:.2g} requests/s"
