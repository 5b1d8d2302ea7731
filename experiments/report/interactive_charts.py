"""Charts drawn by Plotly, for the report: the panels of every kind of chart (`experiments.drawing`) in one world."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from experiments.drawing import (
    BAR_OPACITY,
    DIVERGING,
    INK,
    WHITE_TEXT_FROM,
    Bar,
    BarChart,
    Cell,
    HeatMap,
    LineChart,
    Quantity,
    Scale,
    style_of,
)
from experiments.report.figure_card import PlotPanel
from experiments.report.plotly_style import add_line, add_published, log_range, new_plot, plain, show_values

MARGIN = 0.04
"""Empty part of the axis of what is varied, at either end."""


def line_panel(chart: LineChart, world: str, quantity: Quantity, title: str = "") -> PlotPanel:
    """A panel of one quantity. A policy that has no value of the axis (it reads no telemetry) is a flat line."""
    plot = new_plot(chart.x.label, "" if not title else quantity.label)
    lines = chart.lines(world, quantity)
    ends = _set_x(plot, chart)
    shown = [value for line in lines for value in line.shown]
    for line in lines:
        hover = [_line_hover(chart, line.policy, row, quantity) for row in line.rows.to_dict("records")]
        add_line(plot, line, hover[: len(line.values)], ends)
    show_values(plot, quantity, shown)
    policies = ", ".join(style_of(line.policy).label for line in lines)
    alt = (
        f"Line chart: {quantity.name.lower()} by {chart.x.name.lower()} for {policies}. The table below has the"
        " numbers."
    )
    return PlotPanel(title or quantity.label, plot, alt)


def _set_x(plot: go.Figure, chart: LineChart) -> tuple[float, float]:
    """The axis of what is varied; returns its ends."""
    values = chart.x_values
    places = chart.x.places(values) or [1.0]
    if chart.x.scale is Scale.LOG:
        spare = max(places[-1] / places[0], 1.5) ** MARGIN
        ends = (places[0] / spare, places[-1] * spare)
        plot.update_xaxes(type="log", range=log_range(*ends))
    else:
        wide = MARGIN * (places[-1] - places[0]) or 1.0
        ends = (places[0] - wide, places[-1] + wide)
        plot.update_xaxes(range=list(ends))
    if chart.steps:
        plot.update_xaxes(tickvals=places, ticktext=[chart.x.tick(value).replace("\n", "<br>") for value in values])
    else:
        plot.update_xaxes(dtick=1)
    return ends


def _line_hover(chart: LineChart, policy: str, row: Any, quantity: Quantity) -> str:
    text = f"<b>{plain(style_of(policy).label)}</b>"
    if not pd.isna(row[chart.x.column]):
        at = (
            chart.x.tick(row[chart.x.column]).replace("\n", " ") if chart.steps else chart.x.number(row[chart.x.column])
        )
        text += f" · {chart.x.label}: {at}"
    value, low, high = _values(quantity, row)
    text += f"<br>{quantity.text(value, low, high)}"
    if quantity.published is not None and not pd.isna(row[quantity.published]):
        text += f"<br>the paper: {quantity.text(quantity.factor * row[quantity.published])}"
    if quantity.column == "ttft_ms" and policy != row["reference"]:
        text += _change_hover(row)
    return f"{text}<br>{_counts(row)}"


def _values(quantity: Quantity, row: Any) -> tuple[float, float | None, float | None]:
    value, low, high = (
        None if name is None else quantity.factor * row[name] for name in (quantity.column, quantity.low, quantity.high)
    )
    return float(value), low, high  # type: ignore[arg-type]


def _change_hover(row: Any) -> str:
    if pd.isna(row["ttft_change_percent"]):
        return ""
    change = f"{row['ttft_change_percent']:+.1f} % [{row['ttft_change_low']:+.1f}, {row['ttft_change_high']:+.1f}]"
    return f"<br>{change} against {plain(style_of(str(row['reference'])).label)}"


def _counts(row: Any) -> str:
    """How many requests, and of how many seeds, where the table has both."""
    if "completed" in row:
        return f"{row['completed']} of {row['requests']} requests, {row['seeds']} seeds"
    return f"{row['requests']} requests"


def bar_panel(chart: BarChart, world: str, workload: str) -> PlotPanel:
    """A panel of bars from zero, the change against the reference and the whiskers of its interval on each."""
    plot = new_plot("", chart.quantity.label, height=330)
    bars = chart.bars(world, workload)
    for bar in bars:
        _add_bar(plot, bar, chart.quantity)
    names = [plain(style_of(bar.policy).label) for bar in bars]
    plot.update_xaxes(
        type="category", categoryorder="array", categoryarray=names, tickvals=names, tickangle=0,
        ticktext=[name.replace("-", "-<br>", 1) for name in names],
    )  # fmt: skip
    plot.update_yaxes(range=[0, 1.16 * max(bar.high or bar.value for bar in bars)])
    best = min(bars, key=lambda bar: bar.value)
    lowest = f"{style_of(best.policy).label}, {chart.quantity.text(best.value)}"
    alt = f"Bar chart of {chart.quantity.name.lower()}, {workload}: lowest for {lowest}."
    return PlotPanel(workload, plot, alt)


def _add_bar(plot: go.Figure, bar: Bar, quantity: Quantity) -> None:
    style = style_of(bar.policy)
    label = plain(style.label)
    whiskers = None
    if bar.low is not None and bar.high is not None:
        whiskers = {
            "type": "data", "symmetric": False, "array": [bar.high - bar.value], "arrayminus": [bar.value - bar.low],
            "color": INK, "thickness": 1.2, "width": 4,
        }  # fmt: skip
    plot.add_bar(
        x=[label], y=[bar.value], name=label, meta=bar.policy, error_y=whiskers,
        marker={"color": style.faded(BAR_OPACITY), "line": {"color": style.colour, "width": 1.5},
                "pattern": {"shape": style.plotly_pattern, "fillmode": "overlay", "fgcolor": "#ffffff",
                            "fgopacity": 0.45, "size": 7, "solidity": 0.25}},
        hovertemplate=f"<b>{label}</b><br>{quantity.text(bar.value)}"
        + (_change_hover(bar.row) if bar.change else "")
        + f"<br>{_counts(bar.row)}<extra></extra>",
    )  # fmt: skip
    if bar.published is not None:
        add_published(plot, [label], [bar.published], bar.policy, INK)
    plot.add_scatter(
        x=[label], y=[bar.high or bar.value], mode="text", text=[bar.change], meta=bar.policy,
        textposition="top center", textfont={"size": 12, "color": INK}, hoverinfo="skip", showlegend=False,
        cliponaxis=False,
    )  # fmt: skip


def heat_panel(chart: HeatMap, world: str, workload: str) -> PlotPanel:
    """A panel of cells with their numbers; one that is not significant has its number in light type, with a dot."""
    cells = list(chart.cells(world, workload))
    columns, lines = chart.steps(chart.x), chart.steps(chart.y)
    by_place = {(cell.column, cell.line): cell for cell in cells}
    grid = [[by_place.get((column, line)) for column in range(len(columns))] for line in range(len(lines))]
    plot = new_plot(
        chart.x.label, chart.y.label, height=130 + (60 if chart.value.published else 44) * max(len(lines), 3)
    )
    plot.add_heatmap(
        x=[chart.x.tick(value) for value in columns],
        y=[chart.y.tick(value) for value in lines],
        z=[[cell and cell.value for cell in line] for line in grid],
        text=[[cell and _cell_hover(chart, cell) for cell in line] for line in grid],
        hovertemplate="%{text}<extra></extra>",
        colorscale=[[place / (len(DIVERGING) - 1), colour] for place, colour in enumerate(DIVERGING)],
        zmin=-chart.most,
        zmax=chart.most,
        xgap=2,
        ygap=2,
        hoverongaps=False,
        colorbar={"ticksuffix": f" {chart.value.unit}", "thickness": 10, "outlinewidth": 0, "len": 0.95},
    )
    plot.update_xaxes(type="category", showgrid=False, showline=False, ticks="")
    plot.update_yaxes(type="category", showgrid=False, showline=False, ticks="")
    plot.update_layout(annotations=[_cell_number(chart, cell) for cell in cells])
    best, worst = (pick(cells, key=lambda cell: cell.value) for pick in (max, min))
    alt = (
        f"Heat map, {workload}: {chart.value.name} from {chart.value.text(worst.value)} to"
        f" {chart.value.text(best.value)}, the largest at {_place(chart, best, ' and ')}."
    )
    return PlotPanel(workload, plot, alt)


def _cell_number(chart: HeatMap, cell: Cell) -> dict[str, Any]:
    number = chart.value.number(cell.value)
    text = f"<b>{number}</b>" if cell.significant else f"{number} ·"
    if cell.published is not None:
        text += f"<br>({chart.value.number(cell.published)})"
    ink = "#ffffff" if abs(cell.value) > WHITE_TEXT_FROM * chart.most else INK
    return {"x": cell.column, "y": cell.line, "text": text, "showarrow": False, "font": {"color": ink, "size": 13}}


def _cell_hover(chart: HeatMap, cell: Cell) -> str:
    value, low, high = _values(chart.value, cell.row)
    said = f"<b>{chart.value.text(value, low, high)}</b> saved"
    if cell.published is not None:
        said += f"<br>the paper: {chart.value.text(cell.published)}"
    return f"{_place(chart, cell, '<br>')}<br>{said}<br>{_counts(cell.row)}"


def _place(chart: HeatMap, cell: Cell, between: str) -> str:
    return between.join(f"{axis.label}: {axis.tick(cell.row[axis.column])}" for axis in (chart.y, chart.x))
