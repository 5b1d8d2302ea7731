"""What telemetry snapshots tell when taken together: how slow each link is on average, and how soon a snapshot is old.

A link's slowdown is the time that a transfer needs on it, over that on an idle link: capacity / bandwidth left, from 1
to 1 + b, since a new transfer gets a share even of a full link (`BACKGROUND_COMPETITORS`). Times are averaged, not
bandwidths: a link that is full half of the time costs the mean of both times.
"""

from __future__ import annotations

import numpy as np

from scheduler.arrays import Floats, Ints
from scheduler.view import BACKGROUND_COMPETITORS

TIERS = 4

LEVEL_SNAPSHOTS = 4.0
"""A link's mean starts from that of its level, which counts as this many snapshots. Ours, not tuned."""

DOUBT_PAIRS = 1.0
"""Uncorrelated pairs that each autocorrelation starts from: few snapshots show little correlation. Ours, not
tuned."""

WELL_PAST = 0.5
"""The time constant is read at the shortest lag whose autocorrelation is below this: an error matters least there."""

FAINTEST = 0.02
"""Autocorrelations below this cannot be told from none: at that lag a time constant above lag / 4 is not assumed."""

FREQUENT = 0.25
"""A lag is used once it has this part of the pairs of the most frequent one."""

REMEMBERED = 65
"""Snapshots that are kept, to be compared with the newest at 1, 2, 4, ... 64 snapshots' distance."""

LAGS_BACK = 2 ** np.arange(7)
SHORTEST_LAG_S, DOUBLINGS = 2.0**-10, 31
"""Pairs of snapshots are grouped by lag, doubling from the shortest: 1 ms to 12 days."""


class LinkHistory:
    """The mean slowdown of every link and the correlation time of its deviations, from the snapshots seen so far.

    `mean` [links]: running mean of the slowdown. `tau_s` [4] by tier: seconds after which 1 / e of what a snapshot
    tells beyond the mean is left, for a path of that tier; 0, so that it tells nothing, until two have been seen.
    """

    def __init__(self, capacity_Bps: Floats, link_level: Ints) -> None:
        """`capacity_Bps`, `link_level`: [links], as a View has them."""
        self._capacity_Bps = capacity_Bps
        self._level = link_level
        self._links_of_level = np.maximum(np.bincount(link_level, minlength=TIERS), 1)
        self._crossed = (link_level[:, None] <= np.arange(TIERS)).astype(np.float64)
        self._sum = np.zeros(len(capacity_Bps))
        self._slowdown = np.zeros((REMEMBERED, len(capacity_Bps)))
        self._sampled_s = np.full(REMEMBERED, -np.inf)
        self._pairs = np.zeros((DOUBLINGS, 1))
        self._lags_s = np.zeros((DOUBLINGS, 1))
        self._products = np.zeros((DOUBLINGS, TIERS))
        self._squares = np.zeros((DOUBLINGS, TIERS))
        self.snapshots = 0
        self.mean: Floats = np.ones(len(capacity_Bps))
        self.tau_s: Floats = np.zeros(TIERS)

    def see(self, sampled_s: float, others_Bps: Floats) -> None:
        """Take the snapshot of that time, seconds; `others_Bps` [links]. One that is not newer is left out."""
        newest = self.snapshots % REMEMBERED
        if sampled_s <= self._sampled_s.max():
            return
        left = np.maximum(1 - others_Bps / self._capacity_Bps, 1 / (1 + BACKGROUND_COMPETITORS))
        self._slowdown[newest] = slowdown = 1 / left
        self._sampled_s[newest] = sampled_s
        self.snapshots += 1
        self._sum += slowdown
        of_level = np.bincount(self._level, weights=self._sum, minlength=TIERS) / self._links_of_level
        before = LEVEL_SNAPSHOTS / self.snapshots * of_level[self._level]
        self.mean = (before + self._sum) / (LEVEL_SNAPSHOTS + self.snapshots)
        self._compare(newest)

    def weight(self, age_s: float) -> Floats:
        """w = exp(-age / tau), shape [4] by tier: what a snapshot of that age, seconds, still tells beyond the mean."""
        moved = self.tau_s > 0
        weight: Floats = np.where(moved, np.exp(-age_s / np.where(moved, self.tau_s, 1.0)), 0.0)
        return weight

    @property
    def mean_others_Bps(self) -> Floats:
        """The other traffic, [links], that would slow every link down by its mean."""
        others_Bps: Floats = self._capacity_Bps * (1 - 1 / self.mean)
        return others_Bps

    def _compare(self, newest: int) -> None:
        """Add the pairs of the newest snapshot with earlier ones: lag, product and mean square of the deviations."""
        back = LAGS_BACK[min(self.snapshots, REMEMBERED) > LAGS_BACK]
        if not len(back):
            return
        earlier = (newest - back) % REMEMBERED
        lag_s = self._sampled_s[newest] - self._sampled_s[earlier]
        group = np.clip(np.rint(np.log2(lag_s / SHORTEST_LAG_S)), 0, DOUBLINGS - 1).astype(np.int64)
        now, then = self._slowdown[newest] - self.mean, self._slowdown[earlier] - self.mean
        np.add.at(self._pairs[:, 0], group, 1.0)
        np.add.at(self._lags_s[:, 0], group, lag_s)
        np.add.at(self._products, group, (now * then) @ self._crossed)
        np.add.at(self._squares, group, (now**2 + then**2) / 2 @ self._crossed)
        self.tau_s = self._time_constants()

    def _time_constants(self) -> Floats:
        """tau = -lag / ln r(lag), shape [4], at the lag of `WELL_PAST`, else the longest; 0 where nothing moved."""
        usable = (self._squares > 0) & (self._pairs >= FREQUENT * self._pairs.max())
        correlation = self._products / np.where(usable, self._squares, 1) * self._pairs / (self._pairs + DOUBT_PAIRS)
        past = usable & (correlation < WELL_PAST)
        longest = DOUBLINGS - 1 - usable[::-1].argmax(axis=0)
        at, tier = np.where(past.any(axis=0), past.argmax(axis=0), longest), np.arange(TIERS)
        mean_lag_s = self._lags_s[at, 0] / np.maximum(self._pairs[at, 0], 1)
        tau_s: Floats = -mean_lag_s / np.log(np.maximum(correlation[at, tier], FAINTEST))
        return np.where(usable.any(axis=0), tau_s, 0.0)
