"""The shape in which a figure reaches the page: panels, legend, caption, notes and the table behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
import plotly.graph_objects as go

from experiments.drawing import Style, in_order, style_of


@dataclass(frozen=True)
class PlotPanel:
    """One plot. `title` heads it; `alt` says in a sentence what a person who cannot see it would miss."""

    title: str
    plot: go.Figure
    alt: str


@dataclass(frozen=True)
class FigureCard:
    """One or more panels (a plot each, so that they stack on a phone) with what belongs to all of them.

    `key`: unique on the page and safe in a file name; `findings`: what to see, computed; `table`: the data, whole;
    `policies`: of the legend.
    """

    key: str
    title: str
    question: str
    findings: Sequence[str]
    panels: Sequence[PlotPanel]
    table: pd.DataFrame
    policies: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def legend(self) -> Mapping[str, Style]:
        """The style of each policy, in order."""
        return {policy: style_of(policy) for policy in in_order(self.policies)}
