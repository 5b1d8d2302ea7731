"""Results as a person reads them in a terminal of 80 columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

from experiments.analysis import NEVER, POWER, margins

LEAST_WIDTH = 64
"""A narrower table would break its caption into many lines."""

LONGEST_NAME = 22
"""Characters of a policy's name: the longest of ours has 21."""

Row = Mapping[Any, Any]
Column = tuple[str, Callable[[Row], str]]
"""The heading of a column and what it shows of a row."""


def _change(row: Row) -> str:
    if row["policy"] == row["reference"] or math.isnan(row["ttft_change_percent"]):
        return "-"
    return f"{row['ttft_change_percent']:+.1f} [{row['ttft_change_low']:+.0f}, {row['ttft_change_high']:+.0f}]"


def _refresh(row: Row) -> str:
    """The interval in seconds and in correlation times of the congestion."""
    if math.isnan(row["refresh_s"]):
        return "-"
    if not math.isfinite(row["refresh_s"]):
        return NEVER
    ratio = row["refresh_s"] / row["correlation_s"]
    return f"{row['refresh_s']:g} ({ratio:.2g})" if ratio else f"{row['refresh_s']:g}"


def _snapshots(row: Row) -> str:
    return "-" if math.isnan(row["refresh_s"]) else f"{row['snapshots']:g}"


def _kept(row: Row) -> str:
    """Of the gain of fresh telemetry over none; `none` where there is none, `few` with too few snapshots."""
    if not math.isnan(row["refresh_s"]) and not row["snapshots"] >= margins.LEAST_SNAPSHOTS:
        return "few"
    if math.isnan(row["retained_percent"]):
        return "-"
    return f"{row['retained_percent']:.0f}" if row["telemetry_gain_low"] > 0 else "none"


INTERVAL: Column = ("R (R/tau)", _refresh)
"""R: the telemetry refresh interval, s; tau: correlation time of the congestion (`CongestionSpec.correlation_s`)."""
SNAPSHOTS: Column = ("seen", _snapshots)
"""The fewest telemetry snapshots that decisions of a run were based on."""
MEANS: tuple[Column, ...] = (
    ("TTFT", lambda row: f"{row['ttft_ms']:.0f}"),
    ("change %", _change),
    ("KV", lambda row: f"{row['kv_transfer_ms']:.0f}"),
    ("TBT", lambda row: "-" if math.isnan(row["tpot_ms"]) else f"{row['tpot_ms']:.1f}"),
    ("SLO %", lambda row: f"{100 * row['slo_attainment']:.0f}"),
)
KEPT: Column = ("kept %", _kept)
DECISION_TIME: Column = ("us", lambda row: f"{row['decision_us']:.0f}")


def axis_column(label: str, heading: str) -> Column:
    return heading, lambda row: f"{row[label]:g}"


def in_a_column(policy: str) -> str:
    """A policy's name as a table of 80 columns has room for: the end of a longer one, such as a router's URL."""
    return policy if len(policy) <= LONGEST_NAME else f"…{policy[1 - LONGEST_NAME :]}"


def listing(
    results: pd.DataFrame,
    title: str,
    columns: Sequence[Column],
    note: str = "",
    *,
    compared: str | None = None,
    change: str = "ttft_change",
) -> Table:
    """A row a policy and condition, in a section a world and workload where there are several; `note`: at its foot.

    `compared`: what the changes are, where it is not the mean TTFT against the reference; `change`: what their columns
    begin with.
    """
    failed = int((results["requests"] - results["completed"]).sum())
    reference = results["reference"].iloc[0]
    table = _empty(
        title,
        f"times in ms; {compared or f'change: mean TTFT against {reference}'}, 95 % interval; {failed or 'no'} requests"
        f" failed{_notes(results, change)}{note}",
    )
    table.add_column("policy", no_wrap=True)
    for heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    sections = results.groupby(["world", "workload"], sort=False)
    for (world, workload), rows in sections:
        if sections.ngroups > 1:
            table.add_section()
            table.add_row(_section(world, workload, results))
        for row in rows.to_dict("records"):
            table.add_row(in_a_column(row["policy"]), *(show(row) for _, show in columns))
    return table


def grid(
    cells: pd.DataFrame, title: str, at: tuple[str, str], headings: tuple[str, str],
    names: Callable[[float], str] = "{:g}".format,
) -> Table:  # fmt: skip
    """A row a value of the first column of `at`, a column a value of the second: `gain_percent`, `*` if it may be 0."""
    down, across = at
    table = _empty(title, f"down: {headings[0]}; across: {headings[1]}; * the 95 % interval holds zero{_notes(cells)}")
    table.add_column("", no_wrap=True)
    values = sorted(cells[across].unique())
    for value in values:
        table.add_column(names(value), justify="right", no_wrap=True)
    sections = cells.groupby(["world", "workload"], sort=False)
    for (world, workload), inside in sections:
        if sections.ngroups > 1:
            table.add_section()
            table.add_row(_section(world, workload, cells))
        for value in sorted(inside[down].unique()):
            by_value = {row[across]: row for row in inside[inside[down] == value].to_dict("records")}
            table.add_row(names(value), *(_cell(by_value.get(one)) for one in values))
    return table


def _section(world: object, workload: object, rows: pd.DataFrame) -> str:
    """What tells a section from the others: its workload, and its world where there are several."""
    return f"{world}, {workload}:" if rows["world"].nunique() > 1 else f"{workload}:"


def _notes(results: pd.DataFrame, change: str = "ttft_change") -> str:
    """The smallest changes that the comparisons could have detected, and how many runs of these rows do not count.

    The sweep's conclusions name those runs and say why.
    """
    text, could = "", results[f"{change}_detectable"].dropna()
    if len(could):
        ends = list(dict.fromkeys((f"{could.min():.1f}", f"{could.max():.1f}")))
        text += f"; smallest change detectable ({100 * POWER:.0f} % power): {' to '.join(ends)} %"
    count = int(results["left_out"].sum())
    return text + (f"; {count} invalid run{'s' if count > 1 else ''} left out" if count else "")


def _cell(row: Row | None) -> str:
    if row is None or math.isnan(row["gain_percent"]):
        return "-"
    return f"{row['gain_percent']:+.1f}{'' if row['gain_low'] > 0 or row['gain_high'] < 0 else '*'}"


def _empty(title: str, caption: str) -> Table:
    return Table(title=title, caption=caption, box=box.SIMPLE, pad_edge=False, padding=0, min_width=LEAST_WIDTH)
