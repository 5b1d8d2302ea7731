"""The page style of the interactive plots: fonts, axes, a policy's line and band, and what Plotly is given as text."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.utils import PlotlyJSONEncoder

from experiments.drawing import BAND_OPACITY, INK, LINE_PX, Line, Quantity, Scale, Style, style_of

GRID, AXIS = "#e3e8ed", "#8d99a5"
"""Lighter than in a static figure: the page is grey."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
EMPTY = go.layout.Template()


def new_plot(x_title: str, y_title: str, **layout: Any) -> go.Figure:
    """An empty plot in the page's style."""
    axis: dict[str, Any] = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": AXIS,
        "ticks": "outside",
        "tickcolor": AXIS,
        "ticklen": 4,
        "automargin": True,
    }
    plot = go.Figure()
    plot.update_layout(
        template=EMPTY,
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 12, "t": 12, "b": 8},
        height=320,
        showlegend=False,
        hovermode="closest",
        hoverlabel={"bgcolor": "#ffffff", "bordercolor": AXIS, "font": {"family": FONT, "size": 13, "color": INK}},
        xaxis={
            **axis,
            "title": {"text": x_title, "standoff": 8, "font": {"size": 13}},
            "showgrid": False,
            "showline": True,
        },
        yaxis={**axis, "title": {"text": y_title, "standoff": 8, "font": {"size": 13}}},
        dragmode=False,
    )
    plot.update_layout(**layout)
    return plot


def show_values(plot: go.Figure, quantity: Quantity, values: Sequence[float]) -> None:
    """The upright axis of a quantity with these values, as `Quantity.ends` has it."""
    low, high = quantity.ends(values)
    if quantity.is_log(values):
        powers = [digit * 10.0**power for power in range(-3, 9) for digit in (1, 2, 5)]
        plot.update_yaxes(type="log", tickvals=powers, ticktext=[f"{power:g}" for power in powers])
        plot.update_yaxes(range=log_range(low, high))
    else:
        plot.update_yaxes(range=[low, high], ticksuffix=" %" if quantity.unit == "%" else "")
    if quantity.scale is Scale.CHANGE:
        plot.add_hline(y=0, line={"color": INK, "width": 1})


def log_range(low: float, high: float) -> list[float]:
    """The ends of a logarithmic axis as Plotly takes them."""
    return [math.log10(low), math.log10(high)]


def line_of(style: Style) -> dict[str, Any]:
    return {"color": style.colour, "dash": style.plotly_dash, "width": LINE_PX}


def marker_of(style: Style, size: float = 8) -> dict[str, Any]:
    outline = {"color": "#ffffff", "width": 1}
    return {"color": style.colour, "symbol": style.plotly_marker, "size": size, "line": outline}


def add_line(plot: go.Figure, line: Line, hover: Sequence[str], x_ends: tuple[float, float]) -> None:
    """A policy's line with its band; the two go together when a policy is switched off.

    `hover`: a text a point; `x_ends`: of the axis, which a flat line spans.
    """
    style = style_of(line.policy)
    if line.low:
        plot.add_scatter(
            x=[*line.at, *reversed(line.at)], y=[*line.high, *reversed(line.low)], meta=line.policy, fill="toself",
            fillcolor=style.faded(BAND_OPACITY), line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    at = list(x_ends) if line.flat else line.at
    plot.add_scatter(
        x=at, y=line.values * len(at) if line.flat else line.values, name=plain(style.label), meta=line.policy,
        mode="lines" if line.flat else "lines+markers", line=line_of(style), marker=marker_of(style),
        text=list(hover) * len(at) if line.flat else list(hover), hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    if line.published:
        add_published(plot, line.at, line.published, line.policy, style.colour)


def add_published(plot: go.Figure, at: Sequence[Any], values: Sequence[float], policy: str, colour: str) -> None:
    """The paper's own values, hollow diamonds over ours."""
    plot.add_scatter(
        x=list(at), y=list(values), meta=policy, mode="markers", name="the paper",
        marker={"symbol": "diamond-open", "size": 11, "color": colour, "line": {"width": 2}}, showlegend=False,
        hovertemplate="the paper: %{y}<extra></extra>",
    )  # fmt: skip


def plain(text: Any) -> str:
    """A user's text for Plotly, which reads some HTML in every label: nothing in it is markup."""
    return html.escape(str(text), quote=False)


def as_json(plot: go.Figure) -> Mapping[str, Any]:
    """What `Plotly.newPlot` takes: data and layout."""
    found: dict[str, Any] = json.loads(json.dumps(plot.to_plotly_json(), cls=PlotlyJSONEncoder))
    found["layout"].pop("template", None)
    return found
