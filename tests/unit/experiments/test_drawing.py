"""Quantities, styles and charts, each defined once: Matplotlib's figures and the report's plots show the same."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.drawing import (
    GPUS,
    PAIRED_TTFT,
    PREDICTION_ERROR,
    REFRESH,
    SHARING,
    SLO,
    SNAPSHOT_AGE,
    TBT,
    TTFT,
    BarChart,
    HeatMap,
    LineChart,
    Quantity,
    Scale,
    change_against,
    draw_chart,
    gain_over,
    in_order,
    style_of,
    with_paired_intervals,
)
from experiments.drawing.style import DASHES, HATCHES, MARKERS, POLICY_STYLES, PUBLIC_ROUTERS
from experiments.drawing.theory_figure import draw_theory
from experiments.report.interactive_charts import bar_panel, heat_panel, line_panel
from experiments.report.plotly_style import as_json
from tests.support.paths import ROOT

CHANGE = change_against("CLA*", "ttft_change")
COUNTS = {"requests": 10, "completed": 10, "seeds": 2, "reference": "round_robin"}


def aged(policy: str, refresh_s: float, ttft_ms: float, change: float) -> dict[str, Any]:
    """A row of results: a mean TTFT, and its change with an interval of two points either way."""
    return {
        "world": "analytic", "workload": "rag", "policy": policy, "refresh_s": refresh_s, "ttft_ms": ttft_ms,
        "ttft_change_percent": change, "ttft_change_low": change - 2, "ttft_change_high": change + 2, **COUNTS,
    }  # fmt: skip


RESULTS = with_paired_intervals(
    pd.DataFrame(
        [
            aged("netkv_full", 1.0, 900.0, -10.0),
            aged("netkv_full", math.inf, 950.0, -5.0),
            aged("netkv_full", 20.0, 930.0, -7.0),
            aged("round_robin", math.nan, 1000.0, 0.0),
        ]
    )
)
LINES = LineChart(name="lines", title="Lines?", rows=RESULTS, x=REFRESH, quantities=(PAIRED_TTFT,))
BARS = BarChart(name="bars", title="Bars?", rows=RESULTS.iloc[[0, 3]], quantity=PAIRED_TTFT, change=CHANGE)
CELLS = pd.DataFrame(
    [
        {"gpus": gpus, "sharing": share, "gain_percent": gain, "gain_low": gain - 2, "gain_high": gain + 2,
         "world": "analytic", "workload": "rag", "policy": "netkv_full", **COUNTS}
        for gpus, share, gain in ((64, 0.0, -1.0), (64, 0.5, 4.0), (128, 0.0, 8.0))
    ]
)  # fmt: skip
HEAT = HeatMap(name="heat", title="Heat?", rows=CELLS, policy="netkv_full", x=SHARING, y=GPUS, value=gain_over("CLA*"))


@pytest.mark.parametrize(
    ("quantity", "value", "text"),
    [(TTFT, 943.6, "944 ms"), (TBT, 30.04, "30.0 ms"), (SLO, 99.25, "99.2 %"), (CHANGE, -0.04, "0.0 %"),
     (CHANGE, 4.0, "+4.0 %"), (GPUS, 64, "64")],
)  # fmt: skip
def test_a_value_has_the_unit_and_digits_of_its_quantity(quantity: Quantity, value: float, text: str) -> None:
    assert quantity.text(value) == text


def test_a_value_is_written_with_its_interval() -> None:
    assert CHANGE.text(-7.41, -8.1, -6.6) == "-7.4 % [-8.1, -6.6]"


def test_labels_say_name_and_unit() -> None:
    assert [quantity.label for quantity in (TTFT, GPUS)] == ["Mean time to first token (ms)", "GPUs"]


def test_ticks_are_in_the_unit_and_an_infinite_interval_stands_right_of_all_others() -> None:
    assert [SHARING.tick(value) for value in (0.0, 0.25)] == ["0", "25"]
    assert [REFRESH.tick(value) for value in (0.1, math.inf)] == ["0.1", "never"]
    assert REFRESH.places([0.1, 20.0, math.inf]) == [0.1, 20.0, 60.0]


@pytest.mark.parametrize(
    ("quantity", "values", "ends"),
    [
        (TTFT, [1000.0, 1010.0], (953.9, 1056.1)),  # a hundred milliseconds at least
        (SLO, [99.0, 100.0], (95.0, 100.5)),
        (SLO, [80.0, 100.0], (79.0, 100.5)),
        (CHANGE, [-10.0, -5.0], (-10.6, 0.6)),
        (PREDICTION_ERROR, [3.0, 50.0], (0.0, 53.0)),
    ],
)
def test_an_axis_shows_its_values_as_its_scale_says(
    quantity: Quantity, values: list[float], ends: tuple[float, float]
) -> None:
    assert quantity.ends(values) == pytest.approx(ends)


def test_an_axis_is_logarithmic_only_where_the_values_differ_enough() -> None:
    assert SNAPSHOT_AGE.is_log([0.1, 10.0])
    assert not SNAPSHOT_AGE.is_log([1.0, 2.0])
    assert not SNAPSHOT_AGE.is_log([0.0, 10.0])
    assert not TTFT.is_log([1.0, 1000.0])


def test_paired_intervals_start_from_the_reference() -> None:
    first = RESULTS.iloc[0]
    assert (first["paired_low_ms"], first["paired_high_ms"]) == pytest.approx((880.0, 920.0))


def test_every_style_has_a_spelling_for_plotly() -> None:
    policies = [*POLICY_STYLES, *PUBLIC_ROUTERS, *(f"mine:Policy{number}" for number in range(200))]
    styles = [style_of(policy) for policy in policies]
    assert all(style.plotly_dash and style.plotly_marker for style in styles)
    assert all(bool(style.plotly_pattern) == bool(style.hatch) for style in styles)
    assert {style.dash for style in styles} >= set(DASHES)
    assert {style.marker for style in styles} >= set(MARKERS)
    assert {style.hatch for style in styles} >= set(HATCHES)


def test_legends_have_one_order() -> None:
    given = ["mine:Own", "conductor", "netkv_full", "round_robin", "netkv_full"]
    assert in_order(given) == ["round_robin", "netkv_full", "conductor", "mine:Own"]


def test_a_line_chart_sorts_its_lines_and_tells_which_are_flat() -> None:
    flat, line = LINES.lines("analytic", PAIRED_TTFT)
    assert (flat.policy, flat.flat, flat.values) == ("round_robin", True, [1000.0])
    assert (line.policy, line.at, line.values) == ("netkv_full", [1.0, 20.0, 60.0], [900.0, 930.0, 950.0])
    assert line.low[0] == pytest.approx(880.0)


def test_a_bar_chart_has_a_change_on_every_bar_but_the_reference() -> None:
    reference, bar = BARS.bars("analytic", "rag")
    assert (reference.policy, reference.change, reference.high) == ("round_robin", "", None)
    assert (bar.policy, bar.change) == ("netkv_full", "-10.0 %")


def test_a_heat_map_knows_which_cells_are_significant() -> None:
    cells = {(cell.column, cell.line): (cell.value, cell.significant) for cell in HEAT.cells("analytic", "rag")}
    assert cells == {(0, 0): (-1.0, False), (1, 0): (4.0, True), (0, 1): (8.0, True)}
    assert HEAT.most == 8.0


def test_both_renderers_say_the_same_of_a_line_chart(tmp_path: Path) -> None:
    svg = draw_chart(LINES, "A note.", tmp_path)[1].read_text()
    panel = line_panel(LINES, "analytic", PAIRED_TTFT)
    plot = as_json(panel.plot)
    axis = plot["layout"]["xaxis"]
    assert panel.title == PAIRED_TTFT.label
    assert axis["ticktext"] == ["1", "20", "never"]
    for text in (panel.title, axis["title"]["text"], *axis["ticktext"], *(trace["name"] for trace in plot["data"][:1])):
        assert f"<!-- {text} -->" in svg


def test_both_renderers_say_the_same_of_bars(tmp_path: Path) -> None:
    svg = draw_chart(BARS, "", tmp_path)[1].read_text()
    plot = as_json(bar_panel(BARS, "analytic", "rag").plot)
    texts = [text for trace in plot["data"] if trace.get("mode") == "text" for text in trace["text"] if text]
    assert texts == ["-10.0 %"]
    for text in (*texts, plot["layout"]["yaxis"]["title"]["text"], "Bars? (analytic world)"):
        assert f"<!-- {text} -->" in svg


def test_both_renderers_say_the_same_of_a_heat_map(tmp_path: Path) -> None:
    svg = draw_chart(HEAT, "", tmp_path)[1].read_text()
    plot = as_json(heat_panel(HEAT, "analytic", "rag").plot)
    numbers = [note["text"] for note in plot["layout"]["annotations"]]
    assert numbers == ["-1.0 ·", "<b>+4.0</b>", "<b>+8.0</b>"]
    assert plot["data"][0]["z"] == [[-1.0, 4.0], [8.0, None]]
    assert (plot["layout"]["xaxis"]["title"]["text"], plot["data"][0]["x"]) == (SHARING.label, ["0", "50"])
    for text in ("-1.0", "+4.0", "+8.0", "50", "128"):
        assert f"<!-- {text} -->" in svg


def test_the_figure_of_the_theory_is_written_in_both_formats(tmp_path: Path) -> None:
    assert [path.name for path in draw_theory(tmp_path)] == ["theory-c1.png", "theory-c1.svg"]


def test_scales_are_all_used() -> None:
    used = {quantity.scale for quantity in (TTFT, PREDICTION_ERROR, CHANGE, SLO, REFRESH)}
    assert used == set(Scale)


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("experiments.questions.catalogue, experiments.comparing.comparison_figures", ("matplotlib", "plotly")),
        ("experiments.report.page", ("matplotlib",)),
        ("experiments.drawing.static_charts", ("plotly",)),
    ],
)
def test_what_draws_is_loaded_only_where_a_figure_is_drawn(modules: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {modules}; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
