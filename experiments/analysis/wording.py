"""Words that conclusions share: how a change is written, and what each finding may be called."""

from __future__ import annotations

import math
from collections.abc import Iterable

from experiments.analysis.findings import LargestGain
from experiments.analysis.interval import Interval

CAVEAT = (
    "Intervals are 95 %: over seeds where there are eight or more, else over blocks of consecutive requests, long"
    " enough to be nearly independent. The first tenth of every run, while queues and caches fill, is not counted."
)

OF_TTFT = {"lower": "a gain", "higher": "a loss", "none": "no significant difference"}
"""What a change of the mean TTFT is called, by its significance."""


def refresh_name(refresh_s: float) -> str:
    """A refresh interval: `0.1 s`, `never`."""
    return f"{refresh_s:g} s" if math.isfinite(refresh_s) else "never"


def refresh_names(refresh_s: Iterable[float]) -> str:
    """Several of them: `0.1 s, 1 s, never`."""
    return ", ".join(refresh_name(value) for value in refresh_s)


def percent_change(change: Interval) -> str:
    """A change with its interval: `-7.4 % [-8.1, -6.6]`."""
    return f"{change.value:+.1f} % [{change.low:+.1f}, {change.high:+.1f}]"


def seeds_name(count: int) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{count} seed{'s' if count != 1 else ''}"


def beside_claim(best: Interval, found: LargestGain, claim: str) -> str:
    """The largest of several gains beside the change of the mean TTFT that the paper claims as `up to`."""
    met = {"below": "falls short of", "above": "is beyond", "undecided": "does not differ significantly from"}
    return (
        f"the largest, {percent_change(-best)}, {met[found.beside]} the paper's `up to` {-found.claimed:+.1f} %"
        f" ({claim})"
    )
