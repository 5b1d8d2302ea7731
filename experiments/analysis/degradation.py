"""What faults cost a policy, against its own runs without them, and how much more than the policy that loses least.

Every figure is of the same requests with and without the faults: pairs of (seed, request), so that what the seed makes
of requests, background traffic and faults is in both. The policy that loses least is chosen for each seed on all other
seeds, as in `best_of_several`: who is chosen on the seeds that are judged looks better than it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.analysis.statistics import KEYS, Estimate, Floats, bootstrap, units_of


@dataclass(frozen=True)
class Measure:
    """One thing that a fault can cost, larger where it is worse.

    `name`: what its columns begin with; `unit`: what `{name}_loss_{unit}` is in. `relative`: percent by which the mean
    over the requests that completed in both runs has risen; else percentage points of all requests.
    """

    name: str
    unit: str
    relative: bool

    def values(self, requests: pd.DataFrame) -> pd.DataFrame:
        """What each request counts: its TTFT, ms, or 1 where it missed its SLO or did not complete."""
        done = requests["status"] == "completed"
        if self.relative:
            return requests.loc[done, [*KEYS, "policy"]].assign(value=requests.loc[done, "ttft_ms"].astype(float))
        missed = ~requests["slo_met"].astype(bool) if self.name == "slo" else ~done
        return requests[[*KEYS, "policy"]].assign(value=missed.astype(float))

    def of(self, sums: Floats) -> Floats:
        """The loss of rows of (sum without faults, sum with them, number of requests)."""
        whole, broken, count = sums[..., 0], sums[..., 1], sums[..., 2]
        base = whole if self.relative else count
        lost: Floats = np.divide(broken - whole, base, out=np.full(base.shape, math.nan), where=base != 0)
        return 100 * lost


TTFT_LOSS = Measure("ttft", "percent", relative=True)
SLO_LOSS = Measure("slo", "points", relative=False)
FAILED_LOSS = Measure("failed", "points", relative=False)
MEASURES = (TTFT_LOSS, SLO_LOSS, FAILED_LOSS)
"""The mean TTFT of those that completed in both runs; the requests that miss their SLO, lost ones among them; the
requests that did not complete."""


def loss(whole: pd.DataFrame, broken: pd.DataFrame, measure: Measure) -> Estimate:
    """What the faults cost one policy; `whole`: its requests without them, `broken`: the same requests with them."""
    return _own_loss(_paired(whole, broken, measure), measure)


def _own_loss(pairs: pd.DataFrame, measure: Measure) -> Estimate:
    sums = _sums(pairs)
    return _bootstrapped(pairs, lambda often: measure.of(often @ sums))


def excess(pairs: pd.DataFrame, others: pd.DataFrame, measure: Measure) -> Estimate:
    """How much more one policy loses than another over the requests of both; frames as `_paired` makes them."""
    both = pairs.merge(others, on=KEYS, suffixes=("", "_other"))
    mine, theirs = _sums(both), _sums(both, "_other")
    return _bootstrapped(both, lambda often: measure.of(often @ mine) - measure.of(often @ theirs))


def gentlest_of_other_seeds(pairs: pd.DataFrame, measure: Measure) -> dict[int, str]:
    """For each seed the policy that loses least over all other seeds; of one seed alone, the one of that seed.

    Of equals it is the first in the order of the runs. `pairs`: of every policy, as `_paired` makes them.
    """
    order = list(pairs["policy"].unique())
    by_seed = pairs.assign(count=1.0).groupby(["policy", "seed"])[["whole", "broken", "count"]].sum()
    seeds = sorted(pairs["seed"].unique())
    table = by_seed.reindex(pd.MultiIndex.from_product([order, seeds])).to_numpy().reshape(len(order), len(seeds), 3)
    ran = ~np.isnan(table[:, :, 2])
    table = np.nan_to_num(table)
    judged = table if len(seeds) == 1 else table.sum(axis=1, keepdims=True) - table
    lost = np.where(ran, np.nan_to_num(measure.of(judged), nan=math.inf), math.inf)
    lost = np.round(lost, 9)  # two policies that decide alike differ in the order of their sums
    return {int(seed): order[int(place)] for seed, place in zip(seeds, lost.argmin(axis=0), strict=True)}


def against_whole(group: pd.DataFrame, beside: pd.DataFrame, axis: str, without: Any) -> Mapping[str, float | str]:
    """Figures of a row: what its faults cost, and how much more than the policy that loses least by them.

    For each of `MEASURES`: `{name}_loss_{unit}` and `{name}_excess_{unit}`, each with `_low`, `_high`, `_detectable`
    and `_p`; `{name}_gentlest`, the policy that was chosen for most seeds, and `{name}_gentlest_seeds`, for how many.
    NaN and "" for rows without faults, and where the policy was not run without them. `group`: the requests of the row,
    `beside`: all of the same world and workload; `axis`: the column that tells faults, and `without` its value where
    there are none.
    """
    kind, policy = group[axis].iloc[0], group["policy"].iloc[0]
    found: dict[str, float | str] = {}
    beside = beside[[*KEYS, "policy", "status", "ttft_ms", "slo_met", axis]]
    broken = beside[beside[axis] == kind]
    whole = beside[beside[axis] == without]
    if kind == without:
        broken = broken.iloc[:0]
    for measure in MEASURES:
        pairs = _paired(whole, broken, measure)
        own = pairs[pairs["policy"] == policy]
        chosen = gentlest_of_other_seeds(pairs, measure) if len(pairs) else {}
        others = pairs[pairs["policy"] == pairs["seed"].map(chosen)] if chosen else pairs
        names = sorted(chosen.values(), key=list(pairs["policy"].unique()).index)
        most = max(dict.fromkeys(names), key=names.count) if names else ""
        found |= {f"{measure.name}_gentlest": most, f"{measure.name}_gentlest_seeds": names.count(most)}
        found |= _columns(f"{measure.name}_loss", measure, _own_loss(own, measure))
        found |= _columns(f"{measure.name}_excess", measure, excess(own, others, measure))
    return found


def _columns(prefix: str, measure: Measure, found: Estimate) -> dict[str, float | str]:
    low, high = found.interval()
    return {
        f"{prefix}_{measure.unit}": found.value,
        f"{prefix}_low": low,
        f"{prefix}_high": high,
        f"{prefix}_detectable": found.detectable(),
        f"{prefix}_p": found.p(),
    }


def _paired(whole: pd.DataFrame, broken: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """A row a request of a policy that counts in both: columns `whole` and `broken`, in the order of the runs."""
    named = [
        measure.values(frame).rename(columns={"value": name}) for name, frame in (("whole", whole), ("broken", broken))
    ]
    return named[0].merge(named[1], on=[*KEYS, "policy"])


def _sums(pairs: pd.DataFrame, suffix: str = "") -> Floats:
    """Sums by unit of (without faults, with them, number of requests)."""
    units = units_of(pairs)
    parts = [pairs[f"whole{suffix}"].to_numpy(float), pairs[f"broken{suffix}"].to_numpy(float), np.ones(len(pairs))]
    return np.stack([np.bincount(units, part) for part in parts], axis=1)


def _bootstrapped(pairs: pd.DataFrame, statistic: Callable[[NDArray[np.int64]], Floats]) -> Estimate:
    """A statistic of how often each unit was drawn, with its spread over resamples of whole units."""
    units = units_of(pairs)
    return Estimate(*bootstrap(units, statistic), len(np.unique(units)), len(pairs))
