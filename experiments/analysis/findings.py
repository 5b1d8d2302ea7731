"""What several figures with their intervals say together: typed findings, each decided here and nowhere else.

The sentences of a sweep judge 95 % intervals by these functions, the claims intervals that hold together (Bonferroni),
the report those of one comparison. Every function is pure; `place` fields are indices into the intervals given. The
margins are those of `margins`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.analysis.interval import Bound, Interval, farthest, largest
from experiments.analysis.margins import (
    LEAST_RETAINED_PERCENT,
    LEAST_SHARE_OF_CLAIM,
    SAME_TIER_PERCENT,
    TBT_MARGIN_MS,
    TTFT_MARGIN_PERCENT,
)


@dataclass(frozen=True)
class Invariance:
    """Whether changes since the freshest snapshot, percent of the mean TTFT, all stay within the margin.

    `not invariant`: one lies beyond it; `undecided`: none does, but an interval reaches beyond. `worst`: the place of
    the largest change, `widest`: of the interval that reaches farthest; `beyond`: the places beyond the margin;
    `within`: how many lie within it.
    """

    verdict: Literal["invariant", "not invariant", "undecided"]
    worst: int
    widest: int
    beyond: tuple[int, ...]
    within: int
    margin: float = TTFT_MARGIN_PERCENT


def invariance(changes: Sequence[Interval], margin: float = TTFT_MARGIN_PERCENT) -> Invariance:
    judged = [change.against_margin(margin) for change in changes]
    beyond = tuple(place for place, found in enumerate(judged) if found == "beyond")
    within = judged.count("within")
    reach = [max(abs(change.low), abs(change.high)) for change in changes]
    return Invariance(
        "not invariant" if beyond else "invariant" if within == len(changes) else "undecided",
        farthest(changes),
        max(range(len(changes)), key=reach.__getitem__),
        beyond,
        within,
        margin,
    )


@dataclass(frozen=True)
class Retention:
    """Whether old snapshots keep enough of the gain that a fresh one brings over none.

    `nothing to lose`: that gain is not significantly above 0, so no share of it means anything. `least`: the place of
    the smallest share; `below`: the places significantly below the margin.
    """

    verdict: Literal["kept", "lost", "undecided", "nothing to lose"]
    least: int
    below: tuple[int, ...]
    margin: float = LEAST_RETAINED_PERCENT


def retention(gain: Interval, shares: Sequence[Interval], margin: float = LEAST_RETAINED_PERCENT) -> Retention:
    """`shares`: percent of `gain` that each older snapshot keeps."""
    below = tuple(place for place, share in enumerate(shares) if share.against_bound(margin) == "below")
    least = min(range(len(shares)), key=lambda place: shares[place].value)
    if gain.significance != "higher":
        return Retention("nothing to lose", least, below, margin)
    kept = all(share.low >= margin for share in shares)
    return Retention("lost" if below else "kept" if kept else "undecided", least, below, margin)


@dataclass(frozen=True)
class TiersKept:
    """Whether enough requests keep the tier that they have with the freshest snapshot (C3, as far as runs can show).

    `fewest`: the place of the smallest share; `lost`: how many shares are below the margin.
    """

    verdict: Literal["kept", "not kept", "undecided"]
    fewest: int
    lost: int
    margin: float = SAME_TIER_PERCENT


def tiers_kept(shares: Sequence[Interval], margin: float = SAME_TIER_PERCENT) -> TiersKept:
    """`shares` in percent of the requests."""
    lost = sum(share.against_bound(margin) == "below" for share in shares)
    kept = all(share.low >= margin for share in shares)
    fewest = min(range(len(shares)), key=lambda place: shares[place].value)
    return TiersKept("not kept" if lost else "kept" if kept else "undecided", fewest, lost, margin)


@dataclass(frozen=True)
class Overhead:
    """Whether the overhead in the time between tokens, ms, is below the bound everywhere (C7).

    `above`: the overhead is above the bound somewhere. `worst`: the place of the largest overhead, of those above the
    bound if there are any; `reached`: how many figures are at the bound or more; `beyond`: how many intervals are.
    """

    verdict: Bound
    worst: int
    reached: int
    beyond: int
    bound: float = TBT_MARGIN_MS


def overhead(overheads_ms: Sequence[Interval], bound: float = TBT_MARGIN_MS) -> Overhead:
    judged = [one.against_bound(bound) for one in overheads_ms]
    above = [place for place, found in enumerate(judged) if found == "above"]
    everywhere = judged.count("below") == len(judged)
    return Overhead(
        "above" if above else "below" if everywhere else "undecided",
        max(above or range(len(judged)), key=lambda place: overheads_ms[place].value),
        sum(one.value >= bound for one in overheads_ms),
        len(above),
        bound,
    )


@dataclass(frozen=True)
class LargestGain:
    """The largest of several gains beside a figure claimed as `up to`, in the figure's unit (C4, C5, C6).

    `best`: the place of the largest gain; `beside`: on which side of the figure its interval lies. `supports`: it
    reaches the figure and does not reach below `LEAST_SHARE_OF_CLAIM` of it; `refutes`: no interval reaches the figure.
    `gains` and `losses`: how many are significant; `reached`: how many figures reach the claimed one.
    """

    best: int
    beside: Bound
    supports: bool
    refutes: bool
    gains: int
    losses: int
    reached: int
    claimed: float


def largest_gain(gains: Sequence[Interval], claimed: float) -> LargestGain:
    best = largest(gains)
    return LargestGain(
        best,
        gains[best].against_bound(claimed),
        gains[best].high >= claimed and gains[best].low >= LEAST_SHARE_OF_CLAIM * claimed,
        max(gain.high for gain in gains) < claimed,
        sum(gain.significance == "higher" for gain in gains),
        sum(gain.significance == "lower" for gain in gains),
        sum(gain.value >= claimed for gain in gains),
        claimed,
    )


@dataclass(frozen=True)
class CacheAwarePenalty:
    """Whether cache-aware-only is slower than NetKV, and the more so the longer the prompt (C1).

    `slower` and `steeper`: in how many comparisons, significantly; `both`: the places where both hold; `shown`: the
    place to show, the slowest of these if there are any; `slower_nowhere`: it is never slower, whatever the interval
    holds.
    """

    both: tuple[int, ...]
    shown: int
    slower: int
    steeper: int
    slower_nowhere: bool


def cache_aware_penalty(slower: Sequence[Interval], steeper: Sequence[Interval]) -> CacheAwarePenalty:
    """`slower`: the change of the mean TTFT by comparison; `steeper`: how much it grows with the prompt."""
    ups = [
        (one.significance == "higher", other.significance == "higher")
        for one, other in zip(slower, steeper, strict=True)
    ]
    both = tuple(place for place, up in enumerate(ups) if all(up))
    return CacheAwarePenalty(
        both,
        max(both or range(len(slower)), key=lambda place: slower[place].value),
        sum(up for up, _ in ups),
        sum(up for _, up in ups),
        all(one.high <= 0 for one in slower),
    )
