"""Table 2: the paper's policies at 100, 200 and 250 % load in the paper's own set-up, each of its cells beside ours.

Round-robin and CLA* at 100 % are what the set-up was fitted to (docs/explanation/paper.md); all other cells are
predictions, and only these are counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from rich.table import Table

from experiments.analysis import CAVEAT, Interval, change_column, percent_change
from experiments.drawing import LOAD, PAIRED_TTFT, SLO, TBT, Chart, LineChart, with_paired_intervals
from experiments.published import PAPER_SET_UP, PAPER_TRAFFIC, PublishedCell, published_cells
from experiments.questions.question import Axis, EmulatedCut, Question, SweepProfile
from experiments.questions.result_tables import Column, axis_column, listing

TITLE = "Do the cells of the paper's Table 2 come out?"
REFERENCES = ("cla_star", "round_robin")
POLICIES = (*REFERENCES, "paper_static", "paper_self_contention", "paper_full", "netkv_full")

COLUMN_OF: Mapping[str, tuple[str, str, str]] = {
    "mean_ttft": ("ttft_ms", "ttft_low_ms", "ttft_high_ms"),
    "mean_tbt": ("tpot_ms", "tpot_low_ms", "tpot_high_ms"),
    "slo_attainment": ("slo_attainment", "slo_low", "slo_high"),
}
"""Of the tidy frame, by published quantity. Its mean transfers have no interval here and are shown, not judged."""

WIDEST = 0.1
"""Half of our interval over the published value, ours: a wider one holds too much to tell anything."""

FITTED = {(policy, 100.0) for policy in REFERENCES}

LOADS = Axis(
    label=LOAD.column,
    tag="load{:g}",
    field="workload.speedup",
    read=lambda spec: spec.workload.speedup,
)

CHANGES = {
    **PAPER_SET_UP,
    **PAPER_TRAFFIC,
    "policy_parameters.cla_star.prefix": 4.0,  # its defaults: the set-up was fitted with them
    "policy_parameters.cla_star.queue": 0.5,
    "policy_parameters.cla_star.memory": 0.5,
}

PROFILES = {
    # A minute a run at 100 %, half of it at 200 %: the packets of six policies and one seed, nine minutes.
    "quick": SweepProfile(
        axes={LOAD.column: (1.0, 2.0, 2.5)},
        seeds=(0, 1, 2, 3, 4),
        changes={**CHANGES, "workload.requests": 60, "workload.max_input_tokens": 40_000, "emulation.rate_scale": 2500},
        emulated=EmulatedCut(axes={LOAD.column: (1.0, 2.0)}, seeds=(0,)),
    ),
    "full": SweepProfile(
        axes={LOAD.column: (1.0, 2.0, 2.5)},
        seeds=(0, 1, 2, 3, 4),
        changes={**CHANGES, "workload.requests": 2000, "emulation.rate_scale": 2500},
    ),
}


@dataclass(frozen=True)
class CellBeside:
    """A published cell beside ours: `inside` our 95 % interval, widened by its own, `outside`, or `cannot tell`."""

    cell: PublishedCell
    ours: Interval
    fitted: bool

    @property
    def verdict(self) -> Literal["inside", "outside", "cannot tell"]:
        if math.isnan(self.ours.low) or (self.ours.high - self.ours.low) / 2 > WIDEST * self.cell.value:
            return "cannot tell"
        own = self.cell.half_width or 0.0
        return "inside" if self.ours.low - own <= self.cell.value <= self.ours.high + own else "outside"


def _at_load(row: Mapping[Any, Any]) -> list[PublishedCell]:
    """The published cells of a row's load, of every policy."""
    load_percent = 100 * row[LOAD.column]
    return [cell for cell in published_cells("Table 2") if float(cell.condition["load_percent"]) == load_percent]


def cells_beside(row: Mapping[Any, Any]) -> Iterator[CellBeside]:
    """The published cells of a row of the tidy frame that have an interval here."""
    for cell in _at_load(row):
        if cell.policy == row["policy"] and cell.quantity in COLUMN_OF:
            ours = Interval(*(float(row[column]) for column in COLUMN_OF[cell.quantity]))
            yield CellBeside(cell, ours, (cell.policy, 100 * row[LOAD.column]) in FITTED)


def _published(quantity: str, digits: int) -> Column:
    def show(row: Mapping[Any, Any]) -> str:
        wanted = (row["policy"], quantity)
        return next(
            (f"{cell.value:.{digits}f}" for cell in _at_load(row) if (cell.policy, cell.quantity) == wanted), "-"
        )

    return "paper", show


def _verdict(row: Mapping[Any, Any]) -> str:
    found = next((beside for beside in cells_beside(row) if beside.cell.quantity == "mean_ttft"), None)
    return "-" if found is None else "fitted" if found.fitted else found.verdict


def _with_interval(row: Mapping[Any, Any]) -> str:
    return f"{row['ttft_ms']:.0f} ±{(row['ttft_high_ms'] - row['ttft_low_ms']) / 2:.0f}"


COLUMNS: tuple[Column, ...] = (
    axis_column(LOAD.column, "load"),
    ("TTFT", _with_interval),
    _published("mean_ttft", 0),
    ("cell", _verdict),
    ("KV", lambda row: f"{row['kv_transfer_ms']:.0f}"),
    _published("mean_transfer", 0),
    ("TBT", lambda row: f"{row['tpot_ms']:.2f}"),
    _published("mean_tbt", 2),
)


def table(results: pd.DataFrame) -> Table:
    note = "; load: over the paper's 100 %; cell: the paper's mean TTFT beside our 95 % interval"
    return listing(results, "Table 2, ours and the paper's", COLUMNS, note)


def sentences(results: pd.DataFrame) -> list[str]:
    """How many predicted cells come out, and the gain over CLA* beside the published one."""
    said = []
    for world, rows in results.groupby("world", sort=False):
        beside = [one for row in rows.to_dict("records") for one in cells_beside(row)]
        predicted = Counter(one.verdict for one in beside if not one.fitted)
        if predicted:
            said.append(
                f"of {predicted.total()} predicted cells of Table 2 (means of TTFT and TBT, SLO attainment),"
                f" {predicted['inside']} come out in the {world} world, {predicted['outside']} do not, and of"
                f" {predicted['cannot tell']} our intervals are too wide to tell; {len(beside) - predicted.total()}"
                " more were fitted."
            )
        for policy in dict.fromkeys(rows["policy"]):
            of_policy = rows[(rows["policy"] == policy) & ~rows["policy"].isin(REFERENCES)].sort_values(LOAD.column)
            gains = [_gain(row) for row in of_policy.to_dict("records") if not math.isnan(row["ttft_change_percent"])]
            if gains:
                said.append(f"{policy} in the {world} world: mean TTFT against cla_star {', '.join(gains)}.")
    return [*said, CAVEAT] if said else []


def _gain(row: Mapping[Any, Any]) -> str:
    change = Interval.of_row(row, change_column(REFERENCES[0], REFERENCES))
    theirs = {cell.policy: cell.value for cell in _at_load(row) if cell.quantity == "mean_ttft"}
    text = f"{percent_change(change)} at {100 * row[LOAD.column]:g} % load"
    if row["policy"] in theirs:
        text += f" (the paper {100 * (theirs[row['policy']] / theirs['cla_star'] - 1):+.1f} %)"
    return text


def charts(results: pd.DataFrame) -> list[Chart]:
    return [
        LineChart(
            name="load",
            title="What do the paper's policies gain as its load grows?",
            rows=with_paired_intervals(results),
            note="Our runs; the paper's own numbers are in the table. Bands: 95 % intervals (TTFT: of the paired change"
            " against CLA*).",
            x=LOAD,
            quantities=(PAIRED_TTFT, TBT, SLO),
        )
    ]


QUESTION = Question(
    name="load",
    title=TITLE,
    asks="the paper's set-up at 100, 200, 250 % load, cell by cell (Table 2)",
    axes=(LOADS,),
    policies=POLICIES,
    references=REFERENCES,
    profiles=PROFILES,
    table=table,
    sentences=sentences,
    charts=charts,
)
