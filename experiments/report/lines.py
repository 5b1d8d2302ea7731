"""Lines of a quantity over what a question varies, a line a policy, with the band of its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from experiments.analysis import interval_name
from experiments.report.looks import PolicyLook, plain
from experiments.report.plotting import Panel, band, line, new_plot

WIDE = 5.0
"""A quantity that may have a log scale has one where its largest value is this many times its smallest."""

NEVER_AT = 3.0
"""An interval that never ends is drawn this many times right of the longest that does, as in the static figures."""


@dataclass(frozen=True)
class Axis:
    """What is varied: its column, its name, and whether its steps are ratios."""

    column: str
    name: str
    log: bool = False


@dataclass(frozen=True)
class Quantity:
    """What is measured: the columns of its mean and interval, its name, unit and digits. `zero`: a change, drawn around
    no change. `scale`: from the column to the unit."""

    column: str
    low: str | None
    high: str | None
    name: str
    unit: str
    digits: int
    log: bool = False
    zero: bool = False
    scale: float = 1.0


TTFT = Quantity("ttft_ms", "ttft_low_ms", "ttft_high_ms", "Mean time to first token", "ms", 0)
TBT = Quantity("tpot_ms", "tpot_low_ms", "tpot_high_ms", "Mean time between tokens", "ms", 1)
SLO = Quantity("slo_attainment", "slo_low", "slo_high", "Requests within their SLO", "%", 1, scale=100.0)


def line_panel(rows: pd.DataFrame, looks: Mapping[str, PolicyLook], axis: Axis, quantity: Quantity) -> Panel:
    """A panel of one quantity. A policy that has no value of the axis (it reads no telemetry) is a flat line."""
    plot = new_plot(axis.name, "")
    steps = sorted(rows[axis.column].dropna().unique())
    finite = [value for value in steps if math.isfinite(value)] or [1.0]
    places = [min(value, NEVER_AT * finite[-1]) for value in steps] or finite
    if axis.log:
        ends = [places[0] / 1.25, places[-1] * 1.25]
    else:
        spare = 0.04 * (places[-1] - places[0]) or 1.0
        ends = [places[0] - spare, places[-1] + spare]
    plot.update_xaxes(
        type="log" if axis.log else "linear", tickvals=places,
        ticktext=[interval_name(value).removesuffix(" s") for value in steps],
        range=[math.log10(end) for end in ends] if axis.log else ends,
    )  # fmt: skip
    drawn: list[float] = []
    for policy in [name for name in looks if name in set(rows["policy"])]:
        of_policy = rows[(rows["policy"] == policy) & rows[quantity.column].notna()].sort_values(axis.column)
        if of_policy.empty:
            continue
        look = looks[policy]
        values = (quantity.scale * of_policy[quantity.column]).tolist()
        hover = [_hover(look, row, axis, quantity) for row in of_policy.to_dict("records")]
        drawn += values
        if of_policy[axis.column].isna().all():
            flat = {"mode": "lines", "line": {"color": look.colour, "dash": look.dash, "width": 2}}
            at = [ends[0], *places, ends[1]]
            plot.add_trace(line(look, at, values[:1] * len(at), hover[:1] * len(at), plain(look.label), **flat))
            continue
        at = of_policy[axis.column].clip(upper=NEVER_AT * finite[-1]).tolist()
        if quantity.low and quantity.high:
            low, high = ((quantity.scale * of_policy[side]).tolist() for side in (quantity.low, quantity.high))
            drawn += [*low, *high]
            plot.add_trace(band(look, at, low, high))
        plot.add_trace(line(look, at, values, hover, plain(look.label)))
    if quantity.zero:
        plot.add_hline(y=0, line={"color": "#1b2733", "width": 1})
        drawn.append(0.0)
    if quantity.log and drawn and min(drawn) > 0 and max(drawn) > WIDE * min(drawn):
        ticks = [digit * 10.0**power for power in range(-3, 9) for digit in (1, 2, 5)]
        names = [f"{tick:g}" for tick in ticks]
        plot.update_yaxes(type="log", tickvals=ticks, ticktext=names)
    else:
        plot.update_yaxes(range=y_range(drawn, quantity), ticksuffix=" %" if quantity.unit == "%" else "")
    policies = ", ".join(looks[name].label for name in looks if name in set(rows["policy"]))
    alt = f"Line chart: {quantity.name.lower()} by {axis.name.lower()} for {policies}. The table below has the numbers."
    return Panel(f"{quantity.name} ({quantity.unit})", plot, alt)


def y_range(values: Sequence[float], quantity: Quantity) -> list[float]:
    """Around the values, never so near that nothing looks like much: a tenth of the largest is the least height."""
    known = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(known), max(known)
    if quantity.zero:
        spare = 0.08 * (high - low) or 1.0
        return [low - spare, high + spare]
    if quantity.unit == "%":
        return [max(min(low, 90.0) - 2, 0), 101.5]
    spare = max(0.1 * high - (high - low), 0) / 2 + 0.06 * (high - low)
    return [max(low - spare, 0), high + spare]


def _hover(look: PolicyLook, row: Mapping[Any, Any], axis: Axis, quantity: Quantity) -> str:
    text = f"<b>{plain(look.label)}</b>"
    if not pd.isna(row[axis.column]):
        text += f" · {axis.name}: {interval_name(row[axis.column]).removesuffix(' s')}"
    sign = "+" if quantity.zero else ""
    text += f"<br>{quantity.scale * row[quantity.column]:{sign}.{quantity.digits}f} {quantity.unit}"
    if quantity.low and quantity.high:
        low, high = (quantity.scale * row[side] for side in (quantity.low, quantity.high))
        text += f" [{low:{sign}.{quantity.digits}f}, {high:{sign}.{quantity.digits}f}]"
    if quantity.column == "ttft_ms" and not pd.isna(row["ttft_change_percent"]) and row["policy"] != row["reference"]:
        change = f"{row['ttft_change_percent']:+.1f} % [{row['ttft_change_low']:+.1f}, {row['ttft_change_high']:+.1f}]"
        text += f"<br>{change} against {plain(row['reference'])}"
    return f"{text}<br>{row['completed']} of {row['requests']} requests, {row['seeds']} seeds"
