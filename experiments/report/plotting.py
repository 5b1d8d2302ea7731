"""The house style of the interactive plots, and the shape in which a figure reaches the page.

A figure is one or more panels (a Plotly plot each, so that they stack on a phone), a legend of policies that they
share, a caption and the table behind it. Plotly draws; nothing here knows a question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.utils import PlotlyJSONEncoder

from experiments.report.looks import PolicyLook

INK, MUTED, GRID = "#1b2733", "#4d5b68", "#e3e8ed"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
BAND_OPACITY = 0.14
EMPTY = go.layout.Template()


@dataclass(frozen=True)
class Panel:
    """One plot. `title` heads it; `alt` says in a sentence what a person who cannot see it would miss."""

    title: str
    plot: go.Figure
    alt: str


@dataclass(frozen=True)
class Figure:
    """`key` is unique on the page and safe in a file name. `see`: what to see, computed. `table`: the data, whole."""

    key: str
    title: str
    question: str
    see: Sequence[str]
    panels: Sequence[Panel]
    table: pd.DataFrame
    legend: Sequence[PolicyLook] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def new_plot(x_title: str, y_title: str, **layout: Any) -> go.Figure:
    """An empty plot in the house style."""
    axis: dict[str, Any] = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": "#8d99a5",
        "ticks": "outside",
        "tickcolor": "#8d99a5",
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
        hoverlabel={"bgcolor": "#ffffff", "bordercolor": "#8d99a5", "font": {"family": FONT, "size": 13, "color": INK}},
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


def line(
    look: PolicyLook, x: Sequence[float], y: Sequence[float], hover: Sequence[str], label: str, **trace: Any
) -> go.Scatter:
    """A policy's line with a marker at every value. `label`: its name, escaped; `hover`: a line of text a value."""
    given: dict[str, Any] = {
        "x": list(x),
        "y": list(y),
        "name": label,
        "meta": look.policy,
        "mode": "lines+markers",
        "line": {"color": look.colour, "dash": look.dash, "width": 2.4},
        "marker": {"color": look.colour, "symbol": look.marker, "size": 8, "line": {"color": "#ffffff", "width": 1}},
        "text": list(hover),
        "hovertemplate": "%{text}<extra></extra>",
    }
    return go.Scatter({**given, **trace})


def band(look: PolicyLook, x: Sequence[float], low: Sequence[float], high: Sequence[float]) -> go.Scatter:
    """The interval around a policy's line; it goes with the line when a policy is switched off."""
    return go.Scatter(
        x=[*x, *reversed(list(x))],
        y=[*high, *reversed(list(low))],
        meta=look.policy,
        fill="toself",
        fillcolor=rgba(look.colour, BAND_OPACITY),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
    )


def rgba(colour: str, opacity: float) -> str:
    """`#rrggbb` with an opacity."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def as_json(plot: go.Figure) -> Mapping[str, Any]:
    """What `Plotly.newPlot` takes: data and layout."""
    found: dict[str, Any] = json.loads(json.dumps(plot.to_plotly_json(), cls=PlotlyJSONEncoder))
    found["layout"].pop("template", None)
    return found
