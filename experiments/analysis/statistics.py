"""Comparing policies on the same requests: what counts, intervals that know what is independent, corrected p-values.

Requests of one run wait in the same queues and beside the same background traffic, so they are not independent; runs of
different seeds are. Every interval here is therefore a bootstrap over *units*: seeds where there are enough, otherwise
blocks of consecutive requests. docs/explanation/intervals.md has the coverage that decided it, measured by
`python -m tests.bench.coverage`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from experiments.analysis.percentiles import values_at_percent

Floats = NDArray[np.float64]
Units = NDArray[np.int64]

RESAMPLES = 1000
CONFIDENCE = 0.95
POWER = 0.8
"""The chance with which an effect of the `detectable` size is found: the customary one (Cohen 1988)."""

WARM_UP_SHARE = 0.1
"""Share of each run's requests, from its front, that no statistic counts: queues and caches fill meanwhile. What that
does to a figure is measured in docs/explanation/intervals.md."""

MOST_AT_ONCE = 100_000
"""Numbers in a table of resampled rows: it stays in a processor's cache."""

LEAST_UNITS = 8
"""With fewer seeds than this, each run is cut into just so many blocks of consecutive requests that there are as many
units. Fewer units make intervals too wide to decide anything once several comparisons are corrected for, more of them
make blocks too short to be independent: docs/explanation/intervals.md has the coverage of either."""


RUN_WIDE = frozenset({"tpot_ms"})
"""Columns that differ by run more than by request: a unit is a seed, however few there are, and one tells no interval.
Blocks of a run are so much alike in them that 37 to 81 of 100 intervals of a short run held the truth."""

KEYS = ["seed", "request_id"]
"""What names a request in every policy's runs."""

Bounds = tuple[float, float]
"""Between which values a figure can be at all; no interval of it reaches beyond them."""

UNBOUNDED: Bounds = (-math.inf, math.inf)
SHARE: Bounds = (0.0, 1.0)
SHARE_DIFFERENCE: Bounds = (-1.0, 1.0)


@dataclass(frozen=True)
class Estimate:
    """A figure and how surely it is known. `error`: its standard error; `units`: the independent parts it rests on.

    NaN where there is no data; the ends of an interval are NaN where there is only one unit.
    """

    value: float
    error: float
    units: int
    pairs: int
    dominance: float = math.nan
    """Effect size: the share of pairs in which the figure fell less the share in which it rose, -1 to 1 (the paired
    form of Cliff's delta); NaN where nothing was paired."""
    bounds: Bounds = UNBOUNDED

    def times(self, factor: float) -> Estimate:
        """The same figure in another unit, or with the other sign."""
        low, high = sorted(factor * end for end in self.bounds)
        return replace(self, value=factor * self.value, error=abs(factor) * self.error, bounds=(low, high))

    def interval(self, comparisons: int = 1) -> tuple[float, float]:
        """Student's interval within the bounds; of this many at once, all hold together with `CONFIDENCE` (Bonferroni).

        Cutting off what cannot be leaves the coverage as it is.
        """
        if self.units < 2:
            return math.nan, math.nan
        reach = float(stdtrit(self.units - 1, 1 - (1 - CONFIDENCE) / (2 * comparisons))) * self.error
        return max(self.value - reach, self.bounds[0]), min(self.value + reach, self.bounds[1])

    def detectable(self) -> float:
        """The smallest true effect that would be found significant with a chance of `POWER`, in the figure's unit.

        (t(1 - alpha / 2) + t(POWER)) standard errors, alpha = 1 - `CONFIDENCE`, Student's t over the units: Bloom,
        Minimum detectable effects, Evaluation Review 19 (1995), 547-556. Of one comparison, not corrected for others.
        """
        if self.units < 2:
            return math.nan
        return float(stdtrit(self.units - 1, (1 + CONFIDENCE) / 2) + stdtrit(self.units - 1, POWER)) * self.error

    def p(self, truth: float = 0.0) -> float:
        """Two-sided p-value of `truth`: Student's t over the units, so that it agrees with the interval."""
        if self.units < 2 or math.isnan(self.value):
            return math.nan
        if self.error == 0:
            return float(self.value == truth)
        return float(2 * stdtr(self.units - 1, -abs(self.value - truth) / self.error))


@dataclass(frozen=True)
class Change:
    """Relative change of a mean, in percent, with its confidence interval; `pairs` requests were compared.

    `p`: two-sided, of no change, not corrected; `units`: seeds or blocks that the interval rests on; `dominance` and
    `detectable`, in percent: see `Estimate`.
    """

    percent: float
    low: float
    high: float
    pairs: int
    p: float = math.nan
    units: int = 0
    dominance: float = math.nan
    detectable: float = math.nan


def counted(requests: pd.DataFrame, warm_up: float = WARM_UP_SHARE) -> pd.DataFrame:
    """The rows that statistics are made of: those of runs not `invalid`, after the warm-up cut of each `run`.

    The cut goes by `request_id`, the number in order of arrival, so that it takes the same requests from every policy.
    """
    trusted = requests[requests["verdict"] != "invalid"]
    run_length = trusted.groupby("run")["request_id"].transform("size")
    kept: pd.DataFrame = trusted[trusted["request_id"] >= np.floor(warm_up * run_length)]
    return kept


def units_of(requests: pd.DataFrame, column: str = "") -> Units:
    """The unit of each row, numbered from 0: its `seed`, or with few seeds its block of consecutive `request_id`.

    Of some columns it is the seed whatever their number (`RUN_WIDE`).
    """
    return _units(requests["seed"].to_numpy(), requests["request_id"].to_numpy(), column)


def _units(seed: NDArray[Any], numbers: NDArray[Any], column: str) -> Units:
    seeds, seed_of = np.unique(seed, return_inverse=True)
    if len(seeds) >= LEAST_UNITS or not len(seed) or column in RUN_WIDE:
        return seed_of.astype(np.int64)
    unit_of = seed_of * LEAST_UNITS
    for one in range(len(seeds)):
        (rows,) = np.nonzero(seed_of == one)
        distinct, in_run = np.unique(numbers[rows], return_inverse=True)
        unit_of[rows] += in_run * min(math.ceil(LEAST_UNITS / len(seeds)), len(distinct)) // len(distinct)
    return np.unique(unit_of, return_inverse=True)[1].astype(np.int64)


@lru_cache(maxsize=16)
def resamples(count: int, seed: int = 0) -> NDArray[np.int64]:
    """How often each of `count` units is in each resample of the bootstrap, shape [RESAMPLES, count]; read only."""
    often = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    often.flags.writeable = False
    return often


def paired_change(baseline: pd.DataFrame, other: pd.DataFrame, column: str, seed: int = 0) -> Change:
    """How much the mean of `column` changes from `baseline` to `other`, over the requests that completed in both.

    Requests are paired by (seed, request_id). NaN without pairs. `seed` is of the bootstrap's draws.
    """
    found = relative_change(baseline, other, column, seed=seed)
    low, high = found.interval()
    return Change(found.value, low, high, found.pairs, found.p(), found.units, found.dominance, found.detectable())


def paired_requests(baseline: pd.DataFrame, other: pd.DataFrame) -> int:
    """How many requests completed in both, the pairs of `paired_change`."""
    return len(_completed_pairs(baseline, other, "ttft_ms")[0])


def relative_change(
    baseline: pd.DataFrame, other: pd.DataFrame, column: str, percentile: float | None = None, seed: int = 0
) -> Estimate:
    """The change in percent of the mean, or of a percentile, of `column` over the requests completed in both."""
    before, after, units = _completed_pairs(baseline, other, column)
    if percentile is None:
        sums = _per_unit(units, before, after)
        value, error = bootstrap(units, lambda often: 100 * (_ratio(often @ sums) - 1), seed)
    else:
        ends = [_percentiles(series, units, percentile) for series in (before, after)]
        value, error = bootstrap(units, lambda often: 100 * (ends[1](often) / ends[0](often) - 1), seed)
    return _estimate(value, error, units, before, after)


def difference(
    baseline: pd.DataFrame,
    other: pd.DataFrame,
    column: str,
    *,
    completed: bool,
    seed: int = 0,
    bounds: Bounds = UNBOUNDED,
) -> Estimate:
    """The mean of `column` in `other` less that in `baseline`, in its unit, over the same requests.

    `completed`: only those that completed in both; otherwise all, as for `slo_met`, which a lost request has missed.
    """
    pairs = _completed_pairs if completed else _pairs
    before, after, units = pairs(baseline, other, column)
    return replace(_mean_difference(before, after, units, seed), bounds=bounds)


def share_alike(one: pd.DataFrame, other: pd.DataFrame, column: str, seed: int = 0) -> Estimate:
    """The share of the same requests for which `column` is the same in both."""
    before, after, units = _pairs(one, other, column)
    same = (before == after).astype(float)
    found = _mean_difference(np.zeros(len(same)), same, units, seed)
    return Estimate(found.value, found.error, found.units, found.pairs, bounds=SHARE)


def growth(baseline: pd.DataFrame, other: pd.DataFrame, column: str, over: str) -> Estimate:
    """How much the paired difference of `column` (`other` less `baseline`) grows with `over`: the least-squares slope.

    Over the requests that completed in both; `over` is a column of `baseline`. NaN where it does not vary.
    """
    done = [frame[frame["status"] == "completed"] for frame in (baseline, other)]
    pairs = done[0][[*KEYS, column, over]].merge(done[1][[*KEYS, column]], on=KEYS, suffixes=("_before", "_after"))
    at, rise = pairs[over].to_numpy(dtype=float), (pairs[f"{column}_after"] - pairs[f"{column}_before"]).to_numpy()
    units = units_of(pairs)
    sums = np.stack([np.bincount(units, part) for part in (np.ones(len(at)), at, rise, at * rise, at**2)], axis=1)

    def slope(often: NDArray[np.int64]) -> Floats:
        n, x, y, xy, xx = (often @ sums).T
        return _ratio(np.stack([n * xx - x**2, n * xy - x * y], axis=1))

    value, error = bootstrap(units, slope, 0)
    return Estimate(value, error, len(np.unique(units)), len(rise))


def mean_interval(
    values: Floats, seed: int = 0, units: Units | None = None, bounds: Bounds = UNBOUNDED
) -> tuple[float, float, float]:
    """Mean and its interval, by `units_of` the rows, or as if every value were independent; NaN for no values."""
    count = len(values)
    if units is not None:
        found = _mean_difference(np.zeros(count), values, units, seed)
    elif count:
        error = float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else math.nan
        found = Estimate(float(values.mean()), error, count, count)
    else:
        found = Estimate(math.nan, math.nan, 0, 0)
    return (found.value, *replace(found, bounds=bounds).interval())


def percentile_interval(values: Floats, percentile: float, units: Units, seed: int = 0) -> tuple[float, float, float]:
    """A percentile and its interval, by `units_of` the rows; NaN for no values."""
    value, error = bootstrap(units, _percentiles(values, units, percentile), seed)
    return (value, *Estimate(value, error, len(np.unique(units)), len(values)).interval())


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number (Holm 1979): the chance of one false finding among all stays below each.

    One that is NaN, a comparison that could not be made, stays NaN and is not counted. Equal to statsmodels'
    `multipletests`, to which the tests hold it; that one takes seconds to load and collects garbage at every call.
    """
    given = np.asarray(p_values, dtype=float)
    corrected, known = np.full(len(given), math.nan), np.flatnonzero(~np.isnan(given))
    in_order = known[np.argsort(given[known], kind="stable")]
    times = np.arange(len(in_order), 0, -1)
    corrected[in_order] = np.minimum(np.maximum.accumulate(times * given[in_order]), 1)
    return [float(p) for p in corrected]


def _pairs(
    baseline: pd.DataFrame, other: pd.DataFrame, column: str, *, completed: bool = False
) -> tuple[Floats, Floats, Units]:
    """Both columns over the requests in both, and the unit of each.

    `completed`: over those that completed in both and have the figure; an answer of one token has no TBT.
    """
    mine, theirs = (_keys_and_values(frame, column, completed=completed) for frame in (baseline, other))
    if _same_requests(mine, theirs):
        return mine[2], theirs[2], _units(*mine[:2], column)
    tables = [pd.DataFrame(dict(zip((*KEYS, "value"), found, strict=True))) for found in (mine, theirs)]
    pairs = tables[0].merge(tables[1], on=KEYS, suffixes=("_before", "_after"))
    return pairs["value_before"].to_numpy(), pairs["value_after"].to_numpy(), units_of(pairs, column)


def _completed_pairs(baseline: pd.DataFrame, other: pd.DataFrame, column: str) -> tuple[Floats, Floats, Units]:
    return _pairs(baseline, other, column, completed=True)


Keyed = tuple[NDArray[Any], NDArray[Any], Floats]
"""The seed and the number of each request, and a figure of it."""


def _keys_and_values(frame: pd.DataFrame, column: str, *, completed: bool) -> Keyed:
    seed, number = (frame[name].to_numpy() for name in KEYS)
    values = frame[column].to_numpy(dtype=float)
    if not completed:
        return seed, number, values
    kept = (frame["status"] == "completed").to_numpy(dtype=bool) & ~np.isnan(values)
    return seed[kept], number[kept], values[kept]


def _same_requests(mine: Keyed, theirs: Keyed) -> bool:
    """Whether both hold the same requests, each once and in order: then the rows are pairs as they are."""
    if not all(np.array_equal(one, other) for one, other in zip(mine[:2], theirs[:2], strict=True)):
        return False
    next_seed, next_number = (np.diff(key) for key in mine[:2])
    return bool(((next_seed > 0) | ((next_seed == 0) & (next_number > 0))).all())


def _per_unit(units: Units, before: Floats, after: Floats) -> Floats:
    """A row a unit: the sums of both columns and the number of rows."""
    return np.stack([np.bincount(units, column) for column in (before, after, np.ones(len(units)))], axis=1)


def _ratio(sums: Floats) -> Floats:
    ratio: Floats = np.divide(sums[:, 1], sums[:, 0], out=np.full(len(sums), math.nan), where=sums[:, 0] != 0)
    return ratio


def _mean_difference(before: Floats, after: Floats, units: Units, seed: int) -> Estimate:
    sums = _per_unit(units, before, after)

    def mean(often: NDArray[np.int64]) -> Floats:
        total = often @ sums
        return np.asarray((total[:, 1] - total[:, 0]) / total[:, 2])

    value, error = bootstrap(units, mean, seed)
    return _estimate(value, error, units, before, after)


def _estimate(value: float, error: float, units: Units, before: Floats, after: Floats) -> Estimate:
    dominance = float(np.mean(np.sign(before - after))) if len(before) else math.nan
    return Estimate(value, error, len(np.unique(units)), len(before), dominance)


def _percentiles(values: Floats, units: Units, percent: float) -> Callable[[NDArray[np.int64]], Floats]:
    """A percentile of the rows of resampled units, by how often each unit was drawn."""
    order = np.argsort(values, kind="stable")
    in_order, unit_in_order = values[order], units[order]
    rows = max(MOST_AT_ONCE // max(len(values), 1), 1)

    def percentiles(often: NDArray[np.int64]) -> Floats:
        parts = (often[first : first + rows, unit_in_order] for first in range(0, len(often), rows))
        return np.concatenate([values_at_percent(in_order, np.cumsum(part, axis=1), percent) for part in parts])

    return percentiles


def bootstrap(units: Units, statistic: Callable[[NDArray[np.int64]], Floats], seed: int = 0) -> tuple[float, float]:
    """A statistic of all units and its standard error: the spread over resamples of whole units.

    `statistic` maps rows of how often each unit was drawn to a value each. The spread of a resampled mean of n units is
    too small by sqrt((n - 1) / n), which is put right here. NaN for no units, an error of NaN for one.
    """
    count = len(np.unique(units))
    if not count:
        return math.nan, math.nan
    value = float(statistic(np.ones((1, count), np.int64))[0])
    if count < 2:
        return value, math.nan
    spread = float(np.std(statistic(resamples(count, seed)), ddof=1))
    return value, spread * math.sqrt(count / (count - 1))
