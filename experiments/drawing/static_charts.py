"""Charts drawn by Matplotlib, for papers and documentation: PNG and SVG of every kind of chart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from experiments.drawing.chart_kinds import Bar, BarChart, Chart, HeatMap, Line, LineChart
from experiments.drawing.quantities import Quantity, Scale
from experiments.drawing.static_style import paper, put_title, save_figure
from experiments.drawing.style import BAND_OPACITY, BAR_OPACITY, DIVERGING, FAINT, WHITE_TEXT_FROM, style_of

HATCHED, NOT_RUN = "#b5b5b5", "#ececec"
"""Hatch of cells that may be zero, and colour of cells without runs."""

LABEL_LETTERS, LETTERS_AN_INCH, NAME_LETTERS = 24, 8, 8
"""Letters in a line of an upright label of a heat map, on an inch of a level one, and in a line of a column's name."""


def draw_chart(chart: Chart, note: str, out: Path) -> list[Path]:
    """Write a chart as `NAME.png` and `NAME.svg` into the folder `out`. `note`: a sentence on the runs, for its foot.

    Returns the files written.
    """
    about = f"{note} {chart.note}".strip()
    with paper():
        if isinstance(chart, LineChart):
            return _draw_lines(chart, about, out / chart.name)
        if isinstance(chart, BarChart):
            return _draw_bars(chart, about, out / chart.name)
        return _draw_heat_map(chart, about, out / chart.name)


def _draw_lines(chart: LineChart, note: str, place: Path) -> list[Path]:
    """A row of panels a world; worlds side by side where there is one quantity."""
    panels = [(world, quantity) for world in chart.worlds for quantity in chart.quantities]
    across = len(chart.quantities) if len(chart.quantities) > 1 else len(panels)
    down = len(panels) // across
    width = max((3.5 if len(chart.quantities) > 1 else 4.4) * across, 6.4)
    figure, axes = plt.subplots(
        down, across, figsize=(width, 0.9 + 3.0 * down), squeeze=False, sharex=True, layout="constrained"
    )
    for number, (axis, (world, quantity)) in enumerate(zip(axes.flat, panels, strict=True)):
        lines = chart.lines(world, quantity)
        for line in lines:
            _draw_line(axis, line)
        _finish(axis, quantity, lines)
        axis.set_xlabel(chart.x.label)
        axis.tick_params(labelbottom=True)
        _set_x(axis, chart)
        if number % across == 0 or len(chart.quantities) == 1:
            axis.set_title(f"{world} world")
    put_title(figure, chart.title, note, *axes.flat)
    return save_figure(figure, place)


def _draw_line(axis: Axes, line: Line) -> None:
    style = style_of(line.policy)
    strokes: dict[str, Any] = {"color": style.colour, "linestyle": style.dash, "label": style.label}
    if line.flat:
        axis.axhline(line.values[0], **strokes)
        return
    axis.plot(line.at, line.values, marker=style.marker, zorder=3, **strokes)
    if line.low:
        axis.fill_between(line.at, line.low, line.high, color=style.colour, alpha=BAND_OPACITY, lw=0)
    if line.published:
        axis.plot(line.at, line.published, **_published_marker(style.colour))


def _published_marker(colour: str) -> dict[str, Any]:
    """How the paper's own values are drawn over ours: hollow diamonds in the policy's colour."""
    return {
        "linestyle": "", "marker": "D", "markersize": 7, "markerfacecolor": "none", "markeredgecolor": colour,
        "markeredgewidth": 1.6, "zorder": 4,
    }  # fmt: skip


def _finish(axis: Axes, quantity: Quantity, lines: Sequence[Line]) -> None:
    shown = [value for line in lines for value in line.shown]
    axis.set_ylabel(quantity.label)
    axis.grid(axis="y")
    if quantity.is_log(shown):
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter("{x:g}")
    if quantity.scale is Scale.CHANGE:
        axis.axhline(0, color="#000000", lw=0.8, zorder=1)
    axis.set_ylim(*quantity.ends(shown))


def _set_x(axis: Axes, chart: LineChart) -> None:
    values = chart.x_values
    if chart.x.scale is Scale.LOG:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
    if chart.steps:
        axis.set_xticks(chart.x.places(values), [chart.x.tick(value) for value in values])
        axis.minorticks_off()


def _draw_heat_map(chart: HeatMap, note: str, place: Path) -> list[Path]:
    """Worlds down, workloads across. A cell whose interval holds zero is hatched, its number grey."""
    down, across = len(chart.worlds), len(chart.workloads)
    columns, lines = chart.steps(chart.x), chart.steps(chart.y)
    width = 0.6 + max(0.68 * len(columns), 1.8)
    figure, axes = plt.subplots(
        down, across, sharex=True, sharey=True, squeeze=False, layout="constrained",
        figsize=(max(width * across + 1.4, 6.4), 1.5 + down * (0.7 + 0.55 * len(lines))),
    )  # fmt: skip
    colours = LinearSegmentedColormap.from_list("diverging", DIVERGING)
    image = ScalarMappable(norm=Normalize(-chart.most, chart.most), cmap=colours)
    for row, world in zip(axes, chart.worlds, strict=True):
        for axis, workload in zip(row, chart.workloads, strict=True):
            axis.set_title(_panel_title(chart, world, workload))
            if chart.panel(world, workload).empty:
                _not_run(axis)
                continue
            _draw_cells(axis, chart, world, workload, image)
            axis.set_xlim(-0.5, len(columns) - 0.5)
            axis.set_ylim(-0.5, len(lines) - 0.5)
            axis.set_xticks(range(len(columns)), [_column_tick(chart.x, value) for value in columns])
            axis.set_yticks(range(len(lines)), [chart.y.tick(value) for value in lines])
            axis.spines[:].set_visible(False)
            axis.tick_params(length=0)
            axis.set_facecolor(NOT_RUN)
        row[0].set_ylabel(fill(chart.y.label, LABEL_LETTERS))
    figure.colorbar(image, ax=axes.ravel().tolist(), label=fill(chart.value.label, LABEL_LETTERS))
    for axis in axes[-1]:
        axis.set_xlabel(fill(chart.x.label, int(LETTERS_AN_INCH * figure.get_figwidth() / across)))
    put_title(figure, _title(chart), f"{note} Hatched: no significant difference (the 95 % interval holds zero).")
    return save_figure(figure, place)


def _column_tick(quantity: Quantity, value: float) -> str:
    """A name is broken into short lines, so that columns need not be wide."""
    return fill(quantity.tick(value), NAME_LETTERS) if quantity.names else quantity.tick(value)


def _draw_cells(axis: Axes, chart: HeatMap, world: str, workload: str, image: Any) -> None:
    for cell in chart.cells(world, workload):
        corner = (cell.column - 0.5, cell.line - 0.5)
        axis.add_patch(Rectangle(corner, 1, 1, facecolor=image.to_rgba(cell.value), lw=0))
        ink, behind = "#ffffff" if abs(cell.value) > WHITE_TEXT_FROM * chart.most else "#000000", None
        if not cell.significant:
            ink, behind = "#555555", {"facecolor": "#ffffff", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
            axis.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="////", lw=0, edgecolor=HATCHED))
        written = chart.value.number(cell.value)
        if cell.published is not None:
            written += f"\n({chart.value.number(cell.published)})"
        axis.text(
            cell.column, cell.line, written, ha="center", va="center", fontsize=9, color=ink,
            fontweight="bold" if cell.significant else "normal", bbox=behind,
        )  # fmt: skip


def _draw_bars(chart: BarChart, note: str, place: Path) -> list[Path]:
    """Worlds down, workloads across. Whiskers: the interval of the paired change, laid on the reference's mean."""
    down, across = len(chart.worlds), len(chart.workloads)
    figure, axes = plt.subplots(
        down, across, sharex=True, squeeze=False, layout="constrained",
        figsize=(max(2.7 * across, 6.4), 1.0 + 3.0 * down),
    )  # fmt: skip
    for row, world in zip(axes, chart.worlds, strict=True):
        for axis, workload in zip(row, chart.workloads, strict=True):
            axis.set_title(_panel_title(chart, world, workload))
            bars = chart.bars(world, workload)
            if not bars:
                _not_run(axis)
                continue
            for bar in bars:
                _draw_bar(axis, chart.policies.index(bar.policy), bar)
            axis.set_ylim(0, 1.1 * max(bar.high or bar.value for bar in bars))
            axis.set_xticks([])
            axis.grid(axis="y")
        row[0].set_ylabel(chart.quantity.label)
    put_title(figure, _title(chart), note, *axes.flat)
    return save_figure(figure, place)


def _draw_bar(axis: Axes, at: int, bar: Bar) -> None:
    style = style_of(bar.policy)
    axis.bar(
        at, bar.value, 0.8, label=style.label, color=style.colour, alpha=BAR_OPACITY, hatch=style.hatch,
        edgecolor="#333333",
    )  # fmt: skip
    if bar.low is not None and bar.high is not None:
        axis.plot([at, at], [bar.low, bar.high], color="k", lw=1.2, marker="_", markersize=6)
        top = max(bar.value, bar.high)
        axis.annotate(bar.change, (at, top), (0, 3), textcoords="offset points", ha="center", fontsize=7.5)
    if bar.published is not None:
        axis.plot([at], [bar.published], **_published_marker("#000000"))


def _panel_title(chart: BarChart | HeatMap, world: str, workload: str) -> str:
    return workload if len(chart.worlds) == 1 else f"{workload}, {world}"


def _title(chart: BarChart | HeatMap) -> str:
    """The chart's title, with the world if it is the only one; else the panels name their worlds."""
    return f"{chart.title} ({chart.worlds[0]} world)" if len(chart.worlds) == 1 else chart.title


def _not_run(axis: Axes) -> None:
    axis.set_axis_off()
    axis.text(0.5, 0.5, "not run", ha="center", va="center", color=FAINT, transform=axis.transAxes)
