"""What an old telemetry snapshot keeps of the gain that a fresh one brings: a ratio of two gains, with its interval."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from experiments.analysis.interval import Interval
from experiments.analysis.statistics import CONFIDENCE, Floats, resamples, units_of


def fieller(
    numerator: float, denominator: float, variances: tuple[float, float, float], quantile: float
) -> tuple[float, float]:
    """The ends of Fieller's interval of a ratio a / b of two estimates that are not independent.

    `variances`: v11 of a, v12 of both, v22 of b. It holds every r with (a - r b)^2 <= t^2 (v11 - 2 r v12 + r^2 v22), t
    the `quantile` of Student's t: the estimate of a - r b does not differ significantly from 0. With g = t^2 v22 / b^2

        (a / b - g v12 / v22 +- t / |b| sqrt(v11 - 2 v12 a / b + v22 a^2 / b^2 - g (v11 - v12^2 / v22))) / (1 - g)

    Where b does not differ significantly from 0 (g >= 1) that set has no end and both are infinite. Fieller, Some
    problems in interval estimation, J. R. Stat. Soc. B 16 (1954), 175-185.
    """
    v11, v12, v22 = variances
    if math.isnan(numerator) or math.isnan(denominator) or math.isnan(v22):
        return math.nan, math.nan
    if denominator == 0 or (g := quantile**2 * v22 / denominator**2) >= 1:
        return -math.inf, math.inf
    ratio = numerator / denominator
    slope = v12 / v22 if v22 > 0 else 0.0
    spread = v11 - 2 * ratio * v12 + ratio**2 * v22 - g * (v11 - slope * v12)
    reach = quantile / abs(denominator) * math.sqrt(max(spread, 0.0))
    return (ratio - g * slope - reach) / (1 - g), (ratio - g * slope + reach) / (1 - g)


def retained_gain(
    without: pd.DataFrame, fresh: pd.DataFrame, aged: pd.DataFrame, column: str
) -> tuple[Interval, Interval]:
    """What the fresh snapshot gains over having none, in the unit of `column`, and percent of it that the aged keeps.

    The gain is the mean of `without` less that of `fresh`, the share (without - aged) / (without - fresh), over the
    requests that completed in all three. Units are resampled whole as for every other interval. NaN without any.
    """
    keys = ["seed", "request_id"]
    named = [
        frame.loc[frame["status"] == "completed", [*keys, column]].rename(columns={column: name}).dropna()
        for name, frame in (("without", without), ("fresh", fresh), ("aged", aged))
    ]
    both = named[0].merge(named[1], on=keys).merge(named[2], on=keys)
    units = units_of(both)
    count = len(np.unique(units))
    if count < 2:
        nothing = Interval.exactly(math.nan)
        return nothing, nothing
    gains = [(both["without"] - both[name]).to_numpy(dtype=float) for name in ("aged", "fresh")]
    sums = np.stack([np.bincount(units, part) for part in (*gains, np.ones(len(both)))], axis=1)

    def means(often: Floats) -> Floats:
        total = often @ sums
        found: Floats = total[:, :2] / total[:, 2:]
        return found

    kept, gain = means(np.ones((1, count)))[0]
    variance = np.cov(means(resamples(count).astype(float)), rowvar=False) * count / (count - 1)
    quantile = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
    reach = quantile * math.sqrt(variance[1, 1])
    low, high = fieller(kept, gain, (variance[0, 0], variance[0, 1], variance[1, 1]), quantile)
    share = 100 * kept / gain if gain else math.nan
    return Interval(gain, gain - reach, gain + reach), Interval(share, 100 * low, 100 * high)
