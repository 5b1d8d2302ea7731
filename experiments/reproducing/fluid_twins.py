"""The paper's cells in emulation, told by what packets change of the fluid model's answer.

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

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.analysis import Estimate, Interval, bootstrap, counted, units_of
from experiments.comparing import ON_PATHS, read_recorded, replay_table, simulated
from experiments.published import PublishedCell
from experiments.reproducing.cells_beside import CellBeside, Runs, cells_beside, run_key, runs_of
from experiments.running import RUNS, RunSpec, read_manifest, slo_met

KEYS = ["seed", "request_id"]
RATIOS = {"mean_ttft": "ttft_ms", "mean_tbt": "tpot_ms", "mean_transfer": "kv_transfer_ms"}
SHARES = {"slo_attainment": "slo_met"}
CHANGES = {"mean_ttft_change": "ttft_ms"}
DIFFERENCES = {"slo_attainment_change": "slo_met", "mean_tbt_change": "tpot_ms"}
"""Quantities of cells that are told so, and the column that each is of: not percentiles, whose few requests differ."""

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Means = Callable[[Counts], Floats]
"""From how often each unit was drawn, a row a resample, to the mean of each frame, shape [frames, resamples]."""


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


def cells_by_twins(requests: pd.DataFrame, twins: pd.DataFrame, fluid: pd.DataFrame) -> list[CellBeside]:
    """The predicted cells that the runs of `requests` hold, each with what its twins and the fluid model's long runs
    `fluid` make of it. All three are frames of `experiments.read_sweep`; cells whose mode is packet are held to the
    fluid model's runs of the same condition."""
    packets, same = (runs_of(counted(frame)) for frame in (requests, twins))
    long = {(_asked(one.cell), one.cell.policy, one.cell.against): one for one in cells_beside(fluid)}
    found = []
    for one in cells_beside(requests):
        known = long.get((_asked(one.cell), one.cell.policy, one.cell.against))
        if known is not None and not one.fitted and (ours := _told(one.cell, packets, same, known.ours)) is not None:
            found.append(CellBeside(one.cell, one.world, ours, one.requests))
    return found


def _asked(cell: PublishedCell) -> tuple[str, str, object]:
    """The quantity of a cell and what it is of; the paper's own mode is not ours."""
    return cell.quantity, str(run_key(cell, cell.policy)), cell.condition.get("tier")


def _told(cell: PublishedCell, packets: Runs, same: Runs, long: Interval) -> Interval | None:
    policies = [cell.policy, *([cell.against] if cell.against else [])]
    frames = [runs.get(run_key(cell, policy)) for policy in policies for runs in (packets, same)]
    if any(frame is None for frame in frames):
        return None
    column = {**RATIOS, **SHARES, **CHANGES, **DIFFERENCES}.get(cell.quantity)
    if column is None:
        return None
    means, units = _means([frame for frame in frames if frame is not None], column)

    def statistic(often: Counts) -> Floats:
        found = means(often)
        told: Floats
        if cell.quantity in RATIOS:
            told = found[0] / found[1]
        elif cell.quantity in SHARES:
            told = found[0] - found[1]
        elif cell.quantity in CHANGES:
            told = 100 * (found[0] / found[2] - found[1] / found[3])
        else:
            told = (100 if cell.unit == "points" else 1) * ((found[0] - found[2]) - (found[1] - found[3]))
        return told

    if not len(units):
        return None
    value, error = bootstrap(units, statistic)
    low, high = Estimate(value, error, len(np.unique(units)), len(units)).interval()
    if cell.quantity not in RATIOS:
        half = math.hypot(high - low, long.high - long.low) / 2
        return Interval(long.value + value, long.value + value - half, long.value + value + half)
    half = math.hypot(long.value * (high - low), value * (long.high - long.low)) / 2
    return Interval(long.value * value, long.value * value - half, long.value * value + half)


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
