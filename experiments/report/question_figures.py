"""The charts of the sweeps as figures of the page, in the paper's order, each with its findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from experiments.analysis import CAVEAT
from experiments.drawing import BarChart, Chart, HeatMap, LineChart
from experiments.questions import QUESTIONS
from experiments.report.collect import CollectedSweep
from experiments.report.figure_card import FigureCard
from experiments.report.interactive_charts import bar_panel, heat_panel, line_panel
from experiments.report.typesetting import WORLDS

FIGURE_NAMES = {
    "topology": "Figure 1 · Topology",
    "staleness": "Figure 2 · Staleness",
    "staleness_map": "Map of staleness",
    "prefix": "Figure 3 · Prefix sharing",
    "ablation": "Figure 4 · Ablation",
    "scale": "Figure 5 · Scalability",
    "regimes": "Regimes",
    "faults": "Faults",
    "hard_cases": "Hard cases",
}
"""By question, in the paper's order."""

BANDS = CAVEAT.replace("Intervals", "Bands and whiskers", 1)
LIGHT_TYPE = "A number in light type with a dot: no significant difference (the 95 % interval holds zero)."


def question_figures(sweeps: Sequence[CollectedSweep]) -> list[FigureCard]:
    """Every figure that the sweeps hold data for, in the paper's order, those of emulated runs first."""
    order = list(FIGURE_NAMES)
    numbered = [(number, sweep) for number, sweep in enumerate(sweeps) if sweep.question in QUESTIONS]
    ordered = sorted(numbered, key=lambda pair: (order.index(pair[1].question), not pair[1].emulated, pair[0]))
    return [card for number, sweep in ordered for card in _cards(sweep, f"{sweep.question}-{number}")]


def _cards(sweep: CollectedSweep, key: str) -> list[FigureCard]:
    """The figures of one sweep: of its results, one a world (and workload), then those of its requests."""
    question = QUESTIONS[sweep.question]
    results = question.results(sweep.requests)
    if results.empty:
        return []
    said = question.sentences(results)
    found = [(chart, world) for chart in question.charts(results) for world in chart.worlds]
    cards = [_card(chart, world, said, sweep.question, f"{key}-{place}") for place, (chart, world) in enumerate(found)]
    whole = [_whole_card(chart, f"{key}-{chart.name}") for chart in question.request_charts(sweep.requests)]
    return [*cards, *whole]


def _card(chart: Chart, world: str, said: Sequence[str], question: str, key: str) -> FigureCard:
    """A chart in one world: lines have a panel a quantity, the others one a workload."""
    rows = chart.rows[chart.rows["world"] == world]
    workloads = list(dict.fromkeys(rows["workload"]))
    title, about, notes = f"{FIGURE_NAMES[question]} in {WORLDS[world]}", list(_about(said, world, None)), [BANDS]
    if isinstance(chart, LineChart):
        panels = [line_panel(chart, world, quantity) for quantity in chart.quantities]
        title += f", {', '.join(workloads)}"
        about = [sentence for workload in workloads for sentence in _about(said, world, workload)]
    elif isinstance(chart, BarChart):
        panels = [bar_panel(chart, world, workload) for workload in workloads]
    else:
        panels = [heat_panel(chart, world, workload) for workload in workloads]
        about = [sentence for sentence in about if sentence.startswith(chart.policy)]
        notes = [f"Cells: {chart.value.label}. {LIGHT_TYPE}", CAVEAT]
    policies = () if isinstance(chart, HeatMap) else tuple(rows["policy"])
    notes = [chart.note, *notes] if chart.note else notes
    return FigureCard(key, title, chart.title, about, panels, rows, policies, notes)


def _whole_card(chart: Chart, key: str) -> FigureCard:
    """A chart of lines in every world, a panel a world."""
    assert isinstance(chart, LineChart)
    (quantity,) = chart.quantities
    panels = [line_panel(chart, world, quantity, f"{world.capitalize()} world") for world in chart.worlds]
    rows: pd.DataFrame = chart.rows
    return FigureCard(key, chart.title, "", chart.findings, panels, rows, tuple(rows["policy"]), [chart.note])


def _about(said: Sequence[str], world: str, workload: str | None) -> Iterator[str]:
    """The sentences about a world (and workload), without saying again which that is."""
    for sentence in said:
        if f" in the {world} world" not in sentence:
            continue
        if workload is None:
            yield sentence.replace(f" in the {world} world", "", 1)
        elif f"{workload} in the {world} world" in sentence:
            yield sentence.replace(f" on {workload} in the {world} world", "", 1)
