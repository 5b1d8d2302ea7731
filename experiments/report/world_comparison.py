"""Both worlds compared: how far the fluid model is from the emulation on the runs of a folder, in figures and words."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from experiments.comparing import (
    COMPARISON_TITLE,
    MODELS,
    NEAREST,
    REPLAY,
    IndependentRun,
    diagonal,
    error_distribution,
    gains_report,
    in_words,
    independent_report,
    measured_models,
    models_report,
    one_a_specification,
    pair_up,
    read_recorded,
    replay_report,
    replay_table,
    simulated,
)
from experiments.drawing import (
    EMULATED_TRANSFER,
    MODEL_STYLES,
    SHARE_OF_TRANSFERS,
    TIER_STYLES,
    TRANSFER_ERROR,
    TTFT,
    in_order,
    style_of,
)
from experiments.report.collect import Run
from experiments.report.figure_card import FigureCard, PlotPanel
from experiments.report.plotly_style import line_of, marker_of, new_plot, plain
from experiments.running import StoreError, read_table
from scheduler import PolicyError
from simulator import SimulationError
from workloads import WorkloadError

MOST_RUNS = 16
"""Runs that are replayed for the page, of every policy in turn; `netkv compare` takes all of them."""

MOST_REQUESTS = 20_000
"""Requests that are replayed for the page, all runs together: about a minute on two cores."""

WAYS_SHOWN = {
    "emulated": "Emulated",
    "same_decisions": "Fluid, same decisions",
    "own_decisions": "Fluid, own decisions",
}
"""The three ways of a gain (`experiments.comparing.gains`), as the page names them."""


@dataclass(frozen=True)
class WorldComparison:
    """The report of `netkv compare`, its transfers, and what was left out of it to stay quick."""

    report: dict[str, Any]
    table: pd.DataFrame
    replayed: int
    of: int
    taken_s: float

    @property
    def words(self) -> str:
        return in_words(self.report)


def compare_runs(runs: Sequence[Run], clock: Callable[[], float] = time.monotonic) -> WorldComparison | None:
    """Replay the trusted emulated runs, no more than `MOST_RUNS`; None where there is none that can be replayed."""
    started_s = clock()
    trusted = one_a_specification([run for run in runs if run.spec.world == "emulated" and run.verdict != "invalid"])
    recorded, pairs, requests = [], [], 0
    analytic = [
        IndependentRun(run.spec, read_table(run.folder, "requests")) for run in runs if run.spec.world == "analytic"
    ]
    for run in _in_turn(trusted)[:MOST_RUNS]:
        ours = IndependentRun(run.spec, read_table(run.folder, "requests"))
        requests += len(ours.requests)
        if requests > MOST_REQUESTS:
            break
        try:
            one = read_recorded(run.folder)
            pair = pair_up([ours], analytic) or pair_up([ours], [simulated(run.spec)])
        except (StoreError, WorkloadError, PolicyError, SimulationError):  # no paths; a trace or a policy that is gone
            continue
        recorded.append(one)
        pairs += pair
    if not recorded:
        return None
    table = replay_table(recorded)
    report = {
        "runs": len(recorded),
        "verdicts": sorted({run.verdict for run in recorded}),
        "replay": replay_report(table),
        "models": models_report(table),
        "independent": independent_report(pairs),
        "gains": gains_report(recorded, pairs, table),
    }
    return WorldComparison(report, table, len(recorded), len(trusted), clock() - started_s)


def _in_turn(runs: Sequence[Run]) -> list[Run]:
    """The runs so that a cut takes as many of every policy as it can, seed by seed."""
    seen: dict[str, int] = {}
    turns = []
    for run in runs:
        seen[run.spec.policy] = seen.get(run.spec.policy, -1) + 1
        turns.append((run.spec.seed, seen[run.spec.policy], run))
    return [run for _, _, run in sorted(turns, key=lambda turn: turn[:2])]


def comparison_figures(comparison: WorldComparison) -> list[FigureCard]:
    """Scatter and distribution of the replay error, and the ranking of the policies in both worlds."""
    report, table = comparison.report, comparison.table
    kv = report["replay"]["kv_transfer"]
    best = min(report["models"], key=lambda model: model["median_abs_error"])
    see = [
        f"Half of the {report['replay']['transfers']} transfers are within {kv['median_abs_error']:.0%} of the replay,"
        f" nine in ten within {kv['p90_abs_error']:.0%}; the makespan of"
        f" a run differs by {report['replay']['makespan_error']:+.1%}.",
        f"Nearest in the median comes `{MODEL_STYLES[best['model']].label}` ({best['median_abs_error']:.0%}).",
    ]
    columns = ["run", "request_id", "tier", "kv_bytes", "sharers", "taken_s", *MODELS, "error"]
    found = [
        FigureCard(
            key="replay",
            title=COMPARISON_TITLE,
            question="The same decisions, paths and start times in both worlds: only the network model differs.",
            findings=see,
            panels=[
                PlotPanel("Every transfer", _scatter(table), f"Scatter of transfer times, log scales. {see[0]}"),
                PlotPanel(
                    "Error of the models", _distribution(table), f"Cumulative distributions of the error. {see[1]}"
                ),
            ],
            table=table[columns],
            notes=["On the diagonal a transfer took what the model says; above it, it took longer."],
        )
    ]
    return found + _rankings(report["independent"]["rankings"])


def _scatter(table: pd.DataFrame) -> Any:
    plot = new_plot(NEAREST.label, EMULATED_TRANSFER.label, height=360, showlegend=True)
    for tier, rows in table.groupby("tier"):
        style = TIER_STYLES[int(str(tier))]
        hover = [
            f"<b>request {row['request_id']}</b>, {plain(row['run'])}<br>{row['kv_bytes'] / 1e9:.2f} GB, {style.label}"
            f"<br>{1e3 * row['taken_s']:.0f} ms emulated, {1e3 * row[REPLAY]:.0f} in the model"
            f" ({row['error']:+.0%})"
            for row in rows.to_dict("records")
        ]
        plot.add_scatter(
            x=NEAREST.values(rows), y=EMULATED_TRANSFER.values(rows), mode="markers", name=style.label,
            marker={"color": style.colour, "symbol": style.plotly_marker, "size": 7, "opacity": 0.65},
            text=hover, hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    ends = list(diagonal(table))
    plot.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": "#000000", "width": 1}, hoverinfo="skip", showlegend=False
    )
    plot.update_xaxes(type="log", dtick=1)
    plot.update_yaxes(type="log", dtick=1)
    plot.update_layout(legend={"orientation": "h", "y": -0.28, "x": 0})
    return plot


def _distribution(table: pd.DataFrame) -> Any:
    plot = new_plot(TRANSFER_ERROR.label, SHARE_OF_TRANSFERS.label, height=360, showlegend=True)
    for model in measured_models(table):
        style = MODEL_STYLES[model]
        errors, shares = error_distribution(table, model)
        plot.add_scatter(
            x=[round(error, 3) for error in errors], y=[round(share, 2) for share in shares], mode="lines",
            name=style.label, line=line_of(style),
            hovertemplate=f"{style.label}<br>%{{y:.0f}} % of transfers within %{{x:.0f}} %<extra></extra>",
        )  # fmt: skip
    plot.update_xaxes(type="log", dtick=1)
    plot.update_yaxes(range=[0, 101])
    plot.update_layout(legend={"orientation": "h", "y": -0.28, "x": 0})
    return plot


def _rankings(rankings: Sequence[dict[str, Any]]) -> list[FigureCard]:
    """Mean TTFT of every policy in both worlds, a panel a condition."""
    panels, rows, see = [], [], []
    for ranking in rankings:
        emulated, analytic = ranking["mean_ttft_ms"]["emulated"], ranking["mean_ttft_ms"]["analytic"]
        plot = new_plot("", TTFT.label, height=320)
        for policy, one, other in zip(ranking["policies"], emulated, analytic, strict=True):
            style = style_of(policy)
            rows.append({"refresh_s": ranking["refresh_s"], "policy": policy, "emulated_ms": one, "analytic_ms": other})
            plot.add_scatter(
                x=["emulated", "analytic"], y=[one, other], mode="lines+markers", meta=policy,
                name=plain(style.label), line=line_of(style), marker=marker_of(style, 10),
                hovertemplate=f"<b>{plain(style.label)}</b><br>%{{x}}: %{{y:.0f}} ms<extra></extra>",
            )  # fmt: skip
        plot.update_xaxes(type="category", range=[-0.25, 1.25])
        low, high = ranking["kendall_tau_interval"]
        text = (
            f"Refresh {ranking['refresh_s']:g} s: Kendall's tau {ranking['kendall_tau']:.2f} [{low:.2f}, {high:.2f}]"
            f" over {len(ranking['policies'])} policies and {ranking['requests']} requests."
        )
        see.append(text)
        panels.append(PlotPanel(f"Refresh {ranking['refresh_s']:g} s", plot, f"Slope chart of mean TTFT. {text}"))
    if not panels:
        return []
    return [
        FigureCard(
            key="ranking",
            title="Do both worlds rank the policies alike?",
            question="Each world decides for itself; lines that cross are policies whose order differs.",
            findings=see,
            panels=panels,
            table=pd.DataFrame(rows),
            policies=in_order(row["policy"] for row in rows),
        )
    ]
