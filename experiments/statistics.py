"""Comparing two policies on the same requests: paired differences with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Change:
    """Relative change of a mean, in percent, with its confidence interval; `pairs` requests were compared."""

    percent: float
    low: float
    high: float
    pairs: int


def paired_change(baseline: pd.DataFrame, other: pd.DataFrame, column: str, seed: int = 0) -> Change:
    """How much the mean of `column` changes from `baseline` to `other`, over the requests that completed in both.

    Requests are paired by (seed, request_id); the interval is the percentile bootstrap over pairs. NaN without pairs.
    """
    keys = ["seed", "request_id"]
    wanted = [*keys, column]
    done = [frame.loc[frame["status"] == "completed", wanted] for frame in (baseline, other)]
    pairs = done[0].merge(done[1], on=keys, suffixes=("_baseline", "_other"))
    before = pairs[f"{column}_baseline"].to_numpy(dtype=float)
    after = pairs[f"{column}_other"].to_numpy(dtype=float)
    if not len(pairs):
        return Change(float("nan"), float("nan"), float("nan"), 0)
    drawn = np.random.default_rng(seed).integers(0, len(pairs), (RESAMPLES, len(pairs)))
    changes = 100 * (after[drawn].mean(axis=1) / before[drawn].mean(axis=1) - 1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(changes, [tail, 100 - tail])
    return Change(100 * float(after.mean() / before.mean() - 1), float(low), float(high), len(pairs))


def mean_interval(values: np.ndarray[tuple[int], np.dtype[np.float64]], seed: int = 0) -> tuple[float, float, float]:
    """Mean and its percentile-bootstrap interval; NaN for no values."""
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values[drawn].mean(axis=1), [tail, 100 - tail])
    return float(values.mean()), float(low), float(high)


def weighted_percentiles(
    values: NDArray[np.float64], counts: NDArray[np.int64], percents: Sequence[float]
) -> list[float]:
    """`numpy.percentile(numpy.repeat(values, counts), percents)` without the repeated array. Some count must be > 0.

    Linear between the two nearest ranks, numpy's default: rank (N - 1) p / 100 of N values in order.
    """
    order = np.argsort(values, kind="stable")
    in_order, up_to = values[order], np.cumsum(counts[order])
    ranks = (up_to[-1] - 1) * np.asarray(percents, dtype=float) / 100
    lower = np.floor(ranks)
    below, above = (in_order[np.searchsorted(up_to, rank, side="right")] for rank in (lower, np.ceil(ranks)))
    return [float(value) for value in below + (above - below) * (ranks - lower)]
