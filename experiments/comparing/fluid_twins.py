"""What an emulated run says of a mean, told by what packets change of the fluid model's answer.

An emulated run takes minutes and holds a hundred requests whose lengths have a heavy tail, so its mean is known to a
third, and a change between two policies to a dozen points. The fluid model on the same requests, the run's *twin*,
has the same tail and is a few percent off; of thousands of requests more it is known far better. So a mean is estimated
as the fluid model's over many requests times the ratio of both on the same ones (a ratio estimator: Cochran, Sampling
Techniques, 3rd ed. 1977, chapter 6), a share or a change as the fluid model's plus the difference of both. What the
intervals do not know is a change by packets that shows in longer runs alone.

A twin that decides for itself leaves in all that packets can change, and much noise, since a request of the tail that
goes elsewhere moves a mean. One that is given the run's decisions and paths leaves only what packets change of a
transfer: it takes for granted that decisions, and ECMP's luck, are on average as good beside packets as in a fluid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.analysis import Estimate, Interval, bootstrap, units_of
from experiments.comparing.comparison import simulated
from experiments.comparing.recorded_run import ON_PATHS, read_recorded
from experiments.comparing.replay_error import replay_table
from experiments.running import RUNS, RunSpec, read_manifest, slo_met

KEYS = ["seed", "request_id"]

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Means = Callable[[Counts], Floats]
"""From how often each unit was drawn, a row a resample, to the mean of each frame, shape [frames, resamples]."""


class WithTwin(NamedTuple):
    """The requests of a policy's emulated runs, and the same requests in their twins."""

    packets: pd.DataFrame
    twin: pd.DataFrame


def twins_of(place: Path, requests: pd.DataFrame) -> pd.DataFrame:
    """The fluid model's run of the same specification for each run of a sweep, in the columns of `requests`.

    `requests`: the frame of `experiments.read_sweep` of the folder `place`. It decides for itself.
    """
    found = []
    for name, rows in requests.groupby("run", sort=False):
        spec = RunSpec.model_validate(read_manifest(place / RUNS / str(name))["spec"])
        table = simulated(spec).requests
        labels = {column: rows[column].iloc[0] for column in requests.columns if column not in table.columns}
        found.append(table.assign(**{**labels, "slo_met": slo_met(table, spec.slo)})[list(requests.columns)])
    return pd.concat(found, ignore_index=True)


def replayed(place: Path, requests: pd.DataFrame) -> pd.DataFrame:
    """The emulated requests with the KV transfers of the fluid model that is given their decisions, starts and paths.

    Without the headers of frames, which the fluid model's own runs do not have: what headers cost is what packets cost.
    What comes after a transfer is as much sooner or later. TBT is as it was, so it is left out (NaN where it is asked).
    """
    found = []
    for name, rows in requests.groupby("run", sort=False):
        run = read_recorded(place / RUNS / str(name))
        table = replay_table([run]).set_index("request_id")
        longer_ms = rows["request_id"].map(1e3 * (table["taken_s"] - table[ON_PATHS])).fillna(0.0)
        told = rows.assign(kv_transfer_ms=rows["kv_transfer_ms"] - longer_ms, ttft_ms=rows["ttft_ms"] - longer_ms)
        found.append(told.assign(slo_met=slo_met(told, run.spec.slo), tpot_ms=math.nan))
    return pd.concat(found, ignore_index=True)


def mean_by_twin(ours: WithTwin, column: str, long: Interval) -> Interval | None:
    """The mean of `column`: that of the fluid model's `long` runs times the ratio of packets to twin. None where no
    request has it in both."""
    ratio = _estimated(ours, column=column, statistic=lambda mean: mean[0] / mean[1])
    if ratio is None:
        return None
    value = long.value * ratio.value
    half = math.hypot(long.value * (ratio.high - ratio.low), ratio.value * (long.high - long.low)) / 2
    return Interval(value, value - half, value + half)


def share_by_twin(ours: WithTwin, column: str, long: Interval) -> Interval | None:
    """The share of requests of which `column` holds: that of the `long` runs and the difference of packets and twin."""
    return _beyond(long, _estimated(ours, column=column, statistic=lambda mean: mean[0] - mean[1]))


def change_by_twin(ours: WithTwin, base: WithTwin, column: str, long: Interval) -> Interval | None:
    """The change of the mean of `column` from `base` to `ours`, percent: that of the `long` runs and the difference."""
    return _beyond(
        long,
        _estimated(ours, base, column=column, statistic=lambda mean: 100 * (mean[0] / mean[2] - mean[1] / mean[3])),
    )


def difference_by_twin(
    ours: WithTwin, base: WithTwin, column: str, long: Interval, *, times: float = 1.0
) -> Interval | None:
    """The mean of `column` less that of `base`, `times` a unit of `long`, as a change is told."""
    return _beyond(
        long,
        _estimated(
            ours, base, column=column, statistic=lambda mean: times * ((mean[0] - mean[2]) - (mean[1] - mean[3]))
        ),
    )


def _beyond(long: Interval, by_packets: Interval | None) -> Interval | None:
    if by_packets is None:
        return None
    value = long.value + by_packets.value
    half = math.hypot(by_packets.high - by_packets.low, long.high - long.low) / 2
    return Interval(value, value - half, value + half)


def _estimated(*pairs: WithTwin, column: str, statistic: Callable[[Floats], Floats]) -> Interval | None:
    """A statistic of the means of packets and twin, pair by pair, over the requests that all of them have."""
    means, units = _means([frame for pair in pairs for frame in pair], column)
    if not len(units):
        return None
    value, error = bootstrap(units, lambda often: statistic(means(often)))
    low, high = Estimate(value, error, len(np.unique(units)), len(units)).interval()
    return Interval(value, low, high)


def _means(frames: Sequence[pd.DataFrame], column: str) -> tuple[Means, NDArray[np.int64]]:
    """A function that has the mean of `column` in each frame, over the requests that have it in all of them."""
    parts = [frame.set_index(KEYS) for frame in frames]
    whole = column == "slo_met"
    kept = [part if whole else part[part["status"] == "completed"].dropna(subset=[column]) for part in parts]
    common = kept[0].index
    for part in kept[1:]:
        common = common.intersection(part.index)
    common = common.sort_values()
    units = units_of(common.to_frame(index=False), column)
    sums = np.stack([np.bincount(units, part.loc[common, column].to_numpy(dtype=float)) for part in kept], axis=1)
    counts = np.bincount(units)

    def means(often: Counts) -> Floats:
        found: Floats = ((often @ sums) / (often @ counts)[:, None]).T
        return found

    return means, units
