"""Percentiles of values that are stored with how often each occurred."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def weighted_percentiles(values: Floats, counts: NDArray[np.int64], percents: Sequence[float]) -> list[float]:
    """`numpy.percentile(numpy.repeat(values, counts), percents)` without the repeated array. Some count must be > 0."""
    order = np.argsort(values, kind="stable")
    in_order, up_to = values[order], np.cumsum(counts[order])
    return [float(values_at_percent(in_order, up_to[np.newaxis], percent)[0]) for percent in percents]


def values_at_percent(in_order: Floats, up_to: NDArray[np.int64], percent: float) -> Floats:
    """Linear between the two nearest ranks, numpy's default: rank (N - 1) p / 100 of N values in order.

    `up_to`, [rows, values]: how many values there are up to each of `in_order`, a row for each of several countings.
    """
    rank = (up_to[:, -1] - 1) * percent / 100
    lower = np.floor(rank)
    below, above = (
        in_order[np.count_nonzero(up_to <= nearest[:, np.newaxis], axis=1)] for nearest in (lower, np.ceil(rank))
    )
    return np.asarray(below + (above - below) * (rank - lower))
