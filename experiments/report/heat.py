"""A heat map of gains: cells in a diverging, colour-blind-safe scale, their numbers in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from experiments.questions.words import interval_name
from experiments.report.plotting import INK, Panel, new_plot

# PuOr of ColorBrewer: orange for a loss, purple for a gain, apart for every kind of colour vision and in grey.
SCALE = ((0.0, "#b35806"), (0.25, "#f1a340"), (0.5, "#f7f7f7"), (0.75, "#998ec3"), (1.0, "#542788"))
WHITE_BEYOND = 0.62
"""Of the largest gain: on cells darker than this numbers are white."""


def heat_panel(
    cells: pd.DataFrame, *, row: str, column: str, title: str, axes: tuple[str, str], most: float | None = None
) -> Panel:
    """A panel of `gain_percent` with `gain_low` and `gain_high`, by two columns of `cells`; both scales are categories.

    `most`: the gain at the end of the colour scale, to be shared by panels (default: the largest here).
    """
    rows, columns = (sorted(cells[name].unique()) for name in (row, column))
    table = cells.set_index([row, column])
    grid = table["gain_percent"].unstack().reindex(index=rows, columns=columns)
    limit = most or max(float(np.nanmax(np.abs(grid.to_numpy(dtype=float)))), 1.0)
    names = [[interval_name(value).removesuffix(" s") for value in values] for values in (columns, rows)]
    hover = [[_hover(table, at_row, at_column, axes) for at_column in columns] for at_row in rows]
    plot = new_plot(*axes, height=120 + 44 * max(len(rows), 3))
    plot.add_trace(
        go.Heatmap(
            x=names[0], y=names[1], z=grid.to_numpy(dtype=float).tolist(), text=hover, hoverinfo="text",
            hovertemplate="%{text}<extra></extra>", colorscale=SCALE, zmin=-limit, zmax=limit, xgap=2, ygap=2,
            colorbar={"title": {"text": "%", "side": "top"}, "thickness": 10, "outlinewidth": 0, "len": 0.95},
        )
    )  # fmt: skip
    plot.update_xaxes(type="category", showgrid=False, showline=False, ticks="")
    plot.update_yaxes(type="category", showgrid=False, showline=False, ticks="")
    notes = []
    for (at_row, at_column), cell in table.iterrows():  # type: ignore[misc]
        gain = cell["gain_percent"]
        if pd.isna(gain):
            continue
        sure = cell["gain_low"] > 0 or cell["gain_high"] < 0
        notes.append(
            {
                "x": names[0][columns.index(at_column)],
                "y": names[1][rows.index(at_row)],
                "text": f"<b>{gain:+.1f}</b>" if sure else f"{gain:+.1f} ·",
                "showarrow": False,
                "font": {"color": "#ffffff" if abs(gain) > WHITE_BEYOND * limit else INK, "size": 13},
            }
        )
    plot.update_layout(annotations=notes)
    best = cells.loc[cells["gain_percent"].idxmax()]
    alt = (
        f"Heat map, {title}: gains from {cells['gain_percent'].min():+.1f} to {cells['gain_percent'].max():+.1f} %,"
        f" the largest at {axes[0].lower()} {best[column]:g} and {axes[1].lower()} {best[row]:g}."
    )
    return Panel(title, plot, alt)


def _hover(table: pd.DataFrame, at_row: Any, at_column: Any, axes: tuple[str, str]) -> str:
    if (at_row, at_column) not in table.index:
        return ""
    cell: Mapping[str, Any] = table.loc[(at_row, at_column)].to_dict()
    return (
        f"{axes[1]}: {interval_name(at_row).removesuffix(' s')}<br>{axes[0]}: {interval_name(at_column).removesuffix(' s')}"
        f"<br><b>{cell['gain_percent']:+.1f} %</b> [{cell['gain_low']:+.1f}, {cell['gain_high']:+.1f}]"
    )
