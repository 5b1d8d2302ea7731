"""A figure with its confidence interval, and the three judgements that every finding is made of.

The interval of a figure that is known without one (a spread of means, a share) is the figure itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import pandas as pd

from experiments.analysis.statistics import Change, Estimate

Row = Mapping[Any, Any] | pd.Series
Significance = Literal["lower", "higher", "none"]
"""On which side of zero a whole interval lies; `none`: it holds zero."""

Margin = Literal["within", "beyond", "undecided"]
"""Whether a whole interval lies within +/- a margin, or beyond it on one side."""

Bound = Literal["below", "above", "undecided"]
"""On which side of a bound a whole interval lies; `undecided`: it holds the bound."""


@dataclass(frozen=True)
class Interval:
    """A figure between the ends of its interval, all in one unit; NaN where it is not known."""

    value: float
    low: float
    high: float

    @classmethod
    def of_row(cls, row: Row, prefix: str, value: str = "percent") -> Self:
        """From the columns `{prefix}_{value}`, `{prefix}_low` and `{prefix}_high` of the tidy frame."""
        return cls(float(row[f"{prefix}_{value}"]), float(row[f"{prefix}_low"]), float(row[f"{prefix}_high"]))

    @classmethod
    def of_change(cls, change: Change) -> Self:
        return cls(change.percent, change.low, change.high)

    @classmethod
    def of_estimate(cls, estimate: Estimate, comparisons: int = 1) -> Self:
        """With the interval that holds together with those of so many `comparisons` (Bonferroni)."""
        return cls(estimate.value, *estimate.interval(comparisons))

    @classmethod
    def exactly(cls, value: float) -> Self:
        """Of a figure that has no interval."""
        return cls(value, value, value)

    def __neg__(self) -> Interval:
        return Interval(-self.value, -self.high, -self.low)

    @property
    def significance(self) -> Significance:
        """Whether the figure is statistically significantly below or above zero."""
        return "lower" if self.high < 0 else "higher" if self.low > 0 else "none"

    def against_margin(self, margin: float) -> Margin:
        if self.low > margin or self.high < -margin:
            return "beyond"
        return "within" if self.low >= -margin and self.high <= margin else "undecided"

    def against_bound(self, bound: float) -> Bound:
        return "above" if self.low > bound else "below" if self.high < bound else "undecided"


def largest(intervals: Sequence[Interval]) -> int:
    """The place of the interval with the largest figure."""
    return max(range(len(intervals)), key=lambda place: intervals[place].value)


def farthest(intervals: Sequence[Interval]) -> int:
    """The place of the interval whose figure is farthest from zero."""
    return max(range(len(intervals)), key=lambda place: abs(intervals[place].value))
