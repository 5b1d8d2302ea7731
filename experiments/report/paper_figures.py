"""The paper as published, on the page: how many of its cells come out, and its tables and figures drawn over ours."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from experiments.drawing import BarChart, Chart, HeatMap, LineChart
from experiments.report.collect import CollectedSweep
from experiments.report.figure_card import FigureCard, PlotPanel
from experiments.report.interactive_charts import bar_panel, heat_panel, line_panel
from experiments.report.plotly_style import new_plot
from experiments.report.typesetting import WORLDS
from experiments.reproducing import NAME, answers, cells_beside, cells_frame, paper_charts

COLOURS = {"inside": "#009e73", "outside": "#d55e00", "cannot_tell": "#b8c0c8", "fitted": "#56b4e9"}
"""Of the verdicts: the palette of Okabe and Ito, which colour-blind readers tell apart, and a grey."""


def paper_figures(sweeps: Sequence[CollectedSweep]) -> list[FigureCard]:
    """For each reproduction in the folder: its cells by verdict and what they say, then each table and figure."""
    found = []
    for number, sweep in enumerate(sweeps):
        if sweep.question != NAME:
            continue
        beside = cells_beside(sweep.requests)
        cells = cells_frame(beside)
        if cells.empty:
            continue
        said = answers(beside, sweep.requests)
        for world in dict.fromkeys(cells["world"]):
            here = cells[cells["world"] == world]
            about = [text.removeprefix(f"In the {world} world ") for text in said if f"In the {world} world " in text]
            found.append(
                FigureCard(
                    f"{NAME}-{number}-{world}", f"The paper's cells in {WORLDS[world]}",
                    "How many of the published numbers come out?", about, [_verdicts(here)], here,
                )
            )  # fmt: skip
        charts = [(chart, world) for chart in paper_charts(cells) for world in chart.worlds]
        found += [_card(chart, world, f"{NAME}-{number}-{chart.name}-{world}") for chart, world in charts]
    return found


def _verdicts(cells: pd.DataFrame) -> PlotPanel:
    """A bar a table, its cells by verdict."""
    tables = list(dict.fromkeys(cells["table"]))
    standing = cells["verdict"].mask(cells["fitted"], "fitted")
    plot = new_plot("", "cells", height=320, barmode="stack", showlegend=True)
    for verdict, colour in COLOURS.items():
        counts = [int(((cells["table"] == table) & (standing == verdict)).sum()) for table in tables]
        plot.add_bar(
            x=tables, y=counts, name=verdict.replace("_", " "), marker={"color": colour},
            hovertemplate=f"%{{x}}: %{{y}} {verdict.replace('_', ' ')}<extra></extra>",
        )  # fmt: skip
    counted = standing.value_counts()
    text = ", ".join(f"{counted.get(verdict, 0)} {verdict.replace('_', ' ')}" for verdict in COLOURS)
    return PlotPanel("", plot, f"Stacked bars of the cells of each table by verdict: {text}.")


def _card(chart: Chart, world: str, key: str) -> FigureCard:
    rows = chart.rows[chart.rows["world"] == world]
    workloads = list(dict.fromkeys(rows["workload"]))
    if isinstance(chart, LineChart):
        panels = [line_panel(chart, world, quantity) for quantity in chart.quantities]
    elif isinstance(chart, BarChart):
        panels = [bar_panel(chart, world, workload) for workload in workloads]
    else:
        panels = [heat_panel(chart, world, workload) for workload in workloads]
    policies = () if isinstance(chart, HeatMap) else tuple(rows["policy"])
    return FigureCard(key, f"{chart.title}, in {WORLDS[world]}", "", [], panels, rows, policies, [chart.note])
