"""A heat map of gains: cells in a diverging, colour-blind-safe scale, their numbers in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from experiments.analysis import interval_name
from experiments.report.plotting import INK, Panel, new_plot

# PuOr of ColorBrewer: orange for a loss, purple for a gain, apart for every kind of colour vision and in grey.
SCALE = ((0.0, "#b35806"), (0.25, "#f1a340"), (0.5, "#f7f7f7"), (0.75, "#998ec3"), (1.0, "#542788"))
WHITE_BEYOND = 0.72
"""Of the largest gain: on cells darker than this numbers are white."""

Cell = Mapping[Any, Any]


def heat_panel(cells: pd.DataFrame, *, row: str, column: str, title: str, axes: tuple[str, str], most: float) -> Panel:
    """A panel of `gain_percent` with `gain_low` and `gain_high` by two columns of `cells`, whose names are `axes`.

    `most`: the gain at the ends of the colours, which the panels of a figure share.
    """
    found: Sequence[Cell] = cells.to_dict("records")
    rows, columns = (sorted(set(cells[name])) for name in (row, column))
    by_place = {(cell[row], cell[column]): cell for cell in found}
    plot = new_plot(*axes, height=130 + 44 * max(len(rows), 3))
    plot.add_trace(
        go.Heatmap(
            x=[_step(value) for value in columns],
            y=[_step(value) for value in rows],
            z=[[by_place.get((y, x), {}).get("gain_percent") for x in columns] for y in rows],
            text=[[_hover(by_place.get((y, x)), row, column, axes) for x in columns] for y in rows],
            hovertemplate="%{text}<extra></extra>",
            colorscale=SCALE,
            zmin=-most,
            zmax=most,
            xgap=2,
            ygap=2,
            hoverongaps=False,
            colorbar={"ticksuffix": " %", "thickness": 10, "outlinewidth": 0, "len": 0.95},
        )
    )
    plot.update_xaxes(type="category", showgrid=False, showline=False, ticks="")
    plot.update_yaxes(type="category", showgrid=False, showline=False, ticks="")
    numbers = [_number(cell, (columns.index(cell[column]), rows.index(cell[row])), most) for cell in found]
    plot.update_layout(annotations=numbers)
    best = max(found, key=lambda cell: float(cell["gain_percent"]))
    alt = (
        f"Heat map, {title}: gains from {cells['gain_percent'].min():+.1f} to {cells['gain_percent'].max():+.1f} %, the"
        f" largest at {axes[0].lower()} {_step(best[column])} and {axes[1].lower()} {_step(best[row])}."
    )
    return Panel(title, plot, alt)


def _number(cell: Cell, place: tuple[int, int], most: float) -> dict[str, Any]:
    """What stands in a cell: bold where the interval does not hold zero, with a dot where it does."""
    gain = float(cell["gain_percent"])
    sure = cell["gain_low"] > 0 or cell["gain_high"] < 0
    ink = "#ffffff" if abs(gain) > WHITE_BEYOND * most else INK
    text = f"<b>{gain:+.1f}</b>" if sure else f"{gain:+.1f} ·"
    font = {"color": ink, "size": 13}
    return {"x": place[0], "y": place[1], "text": text, "showarrow": False, "font": font}


def _hover(cell: Cell | None, row: str, column: str, axes: tuple[str, str]) -> str:
    if cell is None:
        return ""
    interval = f"[{cell['gain_low']:+.1f}, {cell['gain_high']:+.1f}]"
    return (
        f"{axes[0]}: {_step(cell[column])}<br>{axes[1]}: {_step(cell[row])}"
        f"<br><b>{cell['gain_percent']:+.1f} %</b> saved {interval}<br>{cell['requests']} requests,"
        f" {cell['seeds']} seeds"
    )


def _step(value: float) -> str:
    return interval_name(value).removesuffix(" s")
