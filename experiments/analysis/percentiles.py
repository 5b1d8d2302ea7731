"""Percentiles of values that are stored with how often each occurred."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def weighted_percentiles(values: Floats, counts: NDArray[np.int64], percents: Sequence[float]) -> list[float]:
    """`numpy.percentile(numpy.repeat(values, counts), percents)` without the repeated array. Some count must be > 0."""
    order = np.argsort(values, kind="stable")
    in_order, up_to = values[order], np.cumsum(counts[order])
    return [value_at_percent(in_order, up_to, percent) for percent in percents]


def value_at_percent(in_order: Floats, up_to: NDArray[np.int64], percent: float) -> float:
    """Linear between the two nearest ranks, numpy's default: rank (N - 1) p / 100 of N values in order.

    `up_to`: how many values there are up to each of `in_order`.
    """
    rank = (up_to[-1] - 1) * percent / 100
    lower = math.floor(rank)
    below, above = in_order[np.searchsorted(up_to, [lower, math.ceil(rank)], side="right")]
    return float(below + (above - below) * (rank - lower))
