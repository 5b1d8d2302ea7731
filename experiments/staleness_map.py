"""The map: NetKV-Full's gain over NetKV-Static by refresh interval and by the time scale of the congestion.

Static reads no telemetry, so one run a time scale and seed is the reference of a whole row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

from experiments.conclusions import interval_name
from experiments.spec import make_spec
from experiments.staleness import NEVER, read_refresh_s, written
from experiments.statistics import paired_change
from experiments.sweep import Condition

QUESTION = "staleness_map"
REFERENCE, POLICY = "netkv_static", "netkv_full"


@dataclass(frozen=True)
class MapProfile:
    """`refresh_s` by `time_scale_s` (mean of the spells of traffic and of silence) by `seeds`."""

    refresh_s: tuple[float | str, ...]
    time_scale_s: tuple[float, ...]
    seeds: tuple[int, ...]
    changes: Mapping[str, Any]


PROFILES = {
    # About 50 s a run, 16 runs: 15 minutes of real packets, seconds of the analytic world.
    "quick": MapProfile(
        refresh_s=(0.1, 5.0, 30.0),
        time_scale_s=(0.5, 2.0, 10.0, 30.0),
        seeds=(0,),
        changes={"workload.requests": 170, "workload.max_input_tokens": 32_768, "workload.max_output_tokens": 64},
    ),
    # Two minutes a run: twice the longest interval and several spells of the slowest congestion.
    "full": MapProfile(
        refresh_s=(0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, NEVER),
        time_scale_s=(0.5, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0),
        seeds=(0, 1, 2, 3, 4),
        changes={"workload.requests": 800, "workload.max_output_tokens": 256},
    ),
}


def map_conditions(profile: MapProfile, worlds: Sequence[str], changes: Mapping[str, Any]) -> list[Condition]:
    """The runs of the map. SpecError for changes that make no specification."""
    made = []
    for world, scale_s, seed in product(worlds, profile.time_scale_s, profile.seeds):
        for policy, refresh in ((REFERENCE, None), *((POLICY, refresh) for refresh in profile.refresh_s)):
            settings: dict[str, Any] = {"world": world, "policy": policy, "seed": seed}
            settings |= {"congestion.kind": "onoff", "congestion.mean_on_s": scale_s, "congestion.mean_off_s": scale_s}
            if refresh is not None:
                settings["oracle.refresh_s"] = refresh
            spec = make_spec({}, {**profile.changes, **changes, **settings})
            swept = None if refresh is None else written(spec.oracle.refresh_s)
            age = "" if swept is None else f"-refresh{swept}"
            labels = {"world": world, "time_scale_s": scale_s, "refresh_s": swept, "seed": seed}
            made.append(Condition(f"{world}-scale{scale_s:g}s-{policy}{age}-seed{seed}", spec, labels))
    return made


def map_cells(requests: pd.DataFrame) -> pd.DataFrame:
    """A row a world, time scale and refresh interval: the gain, percent of Static's mean TTFT, and its interval."""
    trusted = requests[requests["verdict"] != "invalid"]
    trusted = trusted.assign(refresh_s=read_refresh_s(trusted))
    full = trusted[trusted["policy"] == POLICY]
    rows = []
    for (world, scale_s, refresh_s), group in full.groupby(["world", "time_scale_s", "refresh_s"]):
        same = (trusted["world"] == world) & (trusted["time_scale_s"] == scale_s)
        change = paired_change(trusted[same & (trusted["policy"] == REFERENCE)], group, "ttft_ms")
        rows.append(
            {
                "world": world,
                "time_scale_s": scale_s,
                "refresh_s": refresh_s,
                "seeds": group["seed"].nunique(),
                "pairs": change.pairs,
                "gain_percent": -change.percent,
                "gain_low": -change.high,
                "gain_high": -change.low,
            }
        )
    return pd.DataFrame(rows)


def map_table(cells: pd.DataFrame) -> Table:
    """The cells as a person reads them: a row a time scale, a column a refresh interval."""
    table = Table(
        title="Mean TTFT saved by NetKV-Full over NetKV-Static, %",
        caption="rows: mean spell of congestion; columns: refresh interval; * the 95 % interval holds zero",
        box=box.SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    intervals = sorted(cells["refresh_s"].unique())
    several = cells["world"].nunique() > 1
    table.add_column("spell", no_wrap=True)
    for heading in map(interval_name, intervals):
        table.add_column(heading, justify="right", no_wrap=True)
    for (world, scale_s), rows in cells.groupby(["world", "time_scale_s"]):
        by_interval = {row["refresh_s"]: row for row in rows.to_dict("records")}
        table.add_row(
            f"{world} {scale_s:g} s" if several else f"{scale_s:g} s",
            *(_cell(by_interval.get(interval)) for interval in intervals),
        )
    return table


def _cell(row: Mapping[Any, Any] | None) -> str:
    if row is None:
        return "-"
    return f"{row['gain_percent']:+.1f}{'' if row['gain_low'] > 0 or row['gain_high'] < 0 else '*'}"
