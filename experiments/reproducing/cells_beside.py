"""Each published cell beside what either world measured: its interval, and whether the paper's number lies in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import pandas as pd

from experiments.analysis import (
    SHARE,
    SHARE_DIFFERENCE,
    Interval,
    counted,
    difference,
    mean_interval,
    percentile_interval,
    refresh_numbers,
    relative_change,
    units_of,
)
from experiments.published import PublishedCell, published_cells, published_fit
from experiments.reproducing.conditions import PaperCondition
from experiments.reproducing.planned_runs import in_emulation, short

Verdict = Literal["inside", "outside", "cannot_tell"]
RunKey = tuple[str, float, str]
Runs = Mapping[RunKey, pd.DataFrame]
"""The counted requests of one world, by condition, refresh interval (0: none) and policy."""

COLUMNS = (
    *("request_id", "policy", "output_length", "tier", "kv_bytes", "status"),
    *("ttft_ms", "tpot_ms", "kv_transfer_ms", "decision_us"),
)
"""Of `requests.parquet`: all that a cell is measured by."""

MODE_OF_WORLD = {"analytic": ("flow",), "emulated": ("packet", "flow")}
"""Which of the paper's modes a world is held to: real packets answer which of the two real TCP gives."""

WIDEST_RELATIVE = 0.1
"""Half of our interval over the published value: of a mean or percentile in ms that is wider, nothing can be told."""

WIDEST = {"share": 0.03, "%": 3.0, "points": 3.0, "ms": 0.15}
"""The same for shares and for changes, in their own unit: 3 % is the smallest effect that the runs are to tell."""

READING_ERROR = 0.01
"""Of a number that was read off a plot: part of its axis, which is taken to be `AXIS` times as long as the numbers of
its panel are apart (ours: the plots' ends are not known)."""
AXIS = 2.0


def is_fitted(cell: PublishedCell) -> bool:
    """Whether the set-up was fitted to this cell, or to the same quantity of the same runs in another table."""
    return _key(cell) in _fitted_keys()


@cache
def _fitted_keys() -> frozenset[object]:
    cells = published_cells()
    return frozenset(_key(cells[number]) for number in published_fit()["cells"])


def _key(cell: PublishedCell) -> tuple[object, ...]:
    at = PaperCondition.of_cell(cell, cell.policy)
    return (
        at,
        cell.policy,
        cell.quantity,
        cell.against,
        cell.condition.get("tier"),
        cell.condition.get("mode") == "packet",
    )


@dataclass(frozen=True)
class CellBeside:
    """A published cell beside ours in one world; `ours` in the cell's unit, of so many `requests`."""

    cell: PublishedCell
    world: str
    ours: Interval
    requests: int

    @property
    def id(self) -> str:
        """The cell in one word: `table2/rag/load_percent=200/paper_full/mean_ttft`, a change with its baseline."""
        condition = self.cell.condition.items()
        at = (str(value) if name == "workload" else f"{name}={value}" for name, value in condition)
        against = (f"against={self.cell.against}",) if self.cell.against else ()
        return "/".join((short(self.cell.table), *at, self.cell.policy, self.cell.quantity, *against))

    @property
    def fitted(self) -> bool:
        return is_fitted(self.cell)

    @property
    def standing(self) -> str:
        """What it counts as: `fitted`, or its verdict."""
        return "fitted" if self.fitted else self.verdict

    @property
    def own_error(self) -> float:
        """How far the published number itself is uncertain: its printed half width, or how well its plot was read."""
        return max(self.cell.half_width or 0.0, _reading_error(self.cell) if self.cell.read_off_plot else 0.0)

    @property
    def verdict(self) -> Verdict:
        """`inside`: the published number lies in our 95 % interval widened by `own_error`.

        `cannot_tell`: ours is too wide (`WIDEST_RELATIVE`, `WIDEST`), or it is a decision latency, another machine's.
        """
        if self.cell.quantity == "decision":
            return "cannot_tell"
        half = (self.ours.high - self.ours.low) / 2
        absolute = self.cell.unit == "ms" and not self.cell.quantity.endswith("change")
        if math.isnan(half) or half > (WIDEST_RELATIVE * self.cell.value if absolute else WIDEST[self.cell.unit]):
            return "cannot_tell"
        inside = self.ours.low - self.own_error <= self.cell.value <= self.ours.high + self.own_error
        return "inside" if inside else "outside"


def cells_beside(requests: pd.DataFrame, tables: tuple[str, ...] = ()) -> list[CellBeside]:
    """The published cells for which there are runs, those of `tables` or all, in each world.

    `requests`: the frame of `experiments.read_sweep`. A cell whose baseline the paper does not name has no place here.
    """
    found = []
    for world, of_world in counted(requests).groupby("world", sort=False):
        runs = runs_of(of_world)
        for cell in published_cells():
            if (tables and cell.table not in tables) or not _is_for(cell, str(world)):
                continue
            group = runs.get(run_key(cell, cell.policy))
            if group is not None and (ours := _measured(cell, group, runs)) is not None:
                found.append(CellBeside(cell, str(world), ours, len(group)))
    return found


def runs_of(requests: pd.DataFrame) -> Runs:
    """The requests of one world by condition, refresh interval and policy."""
    named = requests.assign(refresh_s=refresh_numbers(requests["refresh_s"]).fillna(0.0))
    return {key: rows for key, rows in named.groupby(["condition", "refresh_s", "policy"], sort=False)}  # type: ignore[misc]


def _reading_error(cell: PublishedCell) -> float:
    workload = cell.condition.get("workload")
    panel = [
        one.value
        for one in published_cells(cell.table)
        if (one.quantity, one.condition.get("workload")) == (cell.quantity, workload)
    ]
    return READING_ERROR * AXIS * (max(panel) - min(panel))


def run_key(cell: PublishedCell, policy: str) -> RunKey:
    """Where `runs_of` has the runs that a cell asks of a policy."""
    at = PaperCondition.of_cell(cell, policy)
    return at.name, at.refresh_s, policy


def _is_for(cell: PublishedCell, world: str) -> bool:
    mode = cell.condition.get("mode")
    return (mode is None or mode in MODE_OF_WORLD[world]) and (world != "emulated" or in_emulation(cell))


def _measured(cell: PublishedCell, group: pd.DataFrame, runs: Runs) -> Interval | None:
    if cell.quantity.endswith("_change"):
        before = runs.get(run_key(cell, cell.against)) if cell.against else None
        return None if before is None else CHANGES[cell.quantity](before, group)
    return level_of(cell, group)


def level_of(cell: PublishedCell, group: pd.DataFrame) -> Interval:
    """A quantity that is no change, in the cell's unit, over the requests of one policy."""
    if cell.quantity != "transfers_of_tier":
        return LEVELS[cell.quantity](group)
    moved = group[(group["status"] == "completed") & (group["kv_bytes"] > 0)]
    here = np.where(moved["tier"] == cell.condition["tier"], 100.0, 0.0)
    return Interval(*mean_interval(here, units=units_of(moved), bounds=(0.0, 100.0)))


def _mean(column: str, completed: bool = True) -> Callable[[pd.DataFrame], Interval]:
    def measure(group: pd.DataFrame) -> Interval:
        rows = group[group["status"] == "completed"] if completed else group
        rows = rows.dropna(subset=[column])
        bounds = (-math.inf, math.inf) if completed else SHARE
        units = units_of(rows, column)
        return Interval(*mean_interval(rows[column].to_numpy(dtype=float), units=units, bounds=bounds))

    return measure


def _percentile(column: str, percent: float) -> Callable[[pd.DataFrame], Interval]:
    def measure(group: pd.DataFrame) -> Interval:
        rows = group[group["status"] == "completed"]
        return Interval(*percentile_interval(rows[column].to_numpy(dtype=float), percent, units_of(rows)))

    return measure


LEVELS: Mapping[str, Callable[[pd.DataFrame], Interval]] = {
    "mean_ttft": _mean("ttft_ms"),
    "mean_tbt": _mean("tpot_ms"),
    "mean_transfer": _mean("kv_transfer_ms"),
    "slo_attainment": _mean("slo_met", completed=False),
    "p99_ttft": _percentile("ttft_ms", 99),
    "decision": lambda group: Interval.exactly(float(group["decision_us"].median())),
}

CHANGES: Mapping[str, Callable[[pd.DataFrame, pd.DataFrame], Interval]] = {
    "mean_ttft_change": lambda before, after: Interval.of_estimate(relative_change(before, after, "ttft_ms")),
    "p99_ttft_change": lambda before, after: Interval.of_estimate(
        relative_change(before, after, "ttft_ms", percentile=99)
    ),
    "slo_attainment_change": lambda before, after: Interval.of_estimate(
        difference(before, after, "slo_met", completed=False, bounds=SHARE_DIFFERENCE).times(100)
    ),
    "mean_tbt_change": lambda before, after: Interval.of_estimate(difference(before, after, "tpot_ms", completed=True)),
}


def cells_frame(beside: list[CellBeside]) -> pd.DataFrame:
    """The cells as a table: what is published, ours with its interval, and the verdict."""
    return pd.DataFrame(
        [
            {
                "id": one.id,
                "table": one.cell.table,
                "world": one.world,
                **_condition_columns(one.cell),
                "policy": one.cell.policy,
                "quantity": one.cell.quantity,
                "against": one.cell.against,
                "unit": one.cell.unit,
                "published": one.cell.value,
                "published_error": one.own_error,
                "ours": one.ours.value,
                "low": one.ours.low,
                "high": one.ours.high,
                "fitted": one.fitted,
                "verdict": one.verdict,
                "requests": one.requests,
            }
            for one in beside
        ]
    )


def _condition_columns(cell: PublishedCell) -> dict[str, object]:
    at = PaperCondition.of_cell(cell, "")
    return {
        "workload": at.workload,
        "load_percent": at.load_percent,
        "context_tokens": at.context_tokens,
        "gpus": at.gpus,
        "cross_pod_oversubscription": at.cross_pod_oversubscription,
        "background_percent": at.background_percent,
        "sharing": cell.condition.get("sharing", math.nan),
        "refresh_s": cell.condition.get("refresh_s", math.nan),
        "tier": cell.condition.get("tier", math.nan),
        "mode": cell.condition.get("mode", ""),
    }
