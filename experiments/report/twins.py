"""Emulated against analytic: how far the fluid model is from packets on the runs of a folder, as figures and words."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from experiments.comparing import (
    RUNG_STYLES,
    RUNGS,
    TIERS,
    FreeRun,
    free_report,
    in_words,
    ladder_report,
    pair_up,
    read_recorded,
    replay_report,
    replay_table,
    simulated,
)
from experiments.report.collect import Run
from experiments.report.looks import DASHES, WORLDS, looks_of, plain
from experiments.report.plotting import Figure, Panel, new_plot
from experiments.running import StoreError, read_table
from scheduler import PolicyError
from simulator import SimulationError
from workloads import WorkloadError

MOST_RUNS = 16
"""Runs that are replayed for the page, of every policy in turn; `netkv compare` takes all of them."""

MOST_REQUESTS = 20_000
"""Requests that are replayed for the page, all runs together: about a minute on two cores."""

TIER_MARKERS = ("triangle-down", "circle", "square", "triangle-up")


@dataclass(frozen=True)
class Comparison:
    """The report of `netkv compare`, its transfers, and what was left out of it to stay quick."""

    report: dict[str, Any]
    table: pd.DataFrame
    replayed: int
    of: int
    taken_s: float

    @property
    def words(self) -> str:
        return in_words(self.report)


def compare_runs(runs: Sequence[Run], clock: Callable[[], float] = time.monotonic) -> Comparison | None:
    """Replay the trusted emulated runs, no more than `MOST_RUNS`; None where there is none that can be replayed."""
    started_s = clock()
    trusted = [run for run in runs if run.spec.world == "emulated" and run.verdict != "invalid"]
    recorded, pairs, requests = [], [], 0
    twins = [FreeRun(run.spec, read_table(run.folder, "requests")) for run in runs if run.spec.world == "analytic"]
    for run in _in_turn(trusted)[:MOST_RUNS]:
        ours = FreeRun(run.spec, read_table(run.folder, "requests"))
        requests += len(ours.requests)
        if requests > MOST_REQUESTS:
            break
        try:
            one = read_recorded(run.folder)
            pair = pair_up([ours], twins) or pair_up([ours], [simulated(run.spec)])
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
        "ladder": ladder_report(table),
        "free": free_report(pairs),
    }
    return Comparison(report, table, len(recorded), len(trusted), clock() - started_s)


def _in_turn(runs: Sequence[Run]) -> list[Run]:
    """The runs so that a cut takes as many of every policy as it can, seed by seed."""
    seen: dict[str, int] = {}
    turns = []
    for run in runs:
        seen[run.spec.policy] = seen.get(run.spec.policy, -1) + 1
        turns.append((run.spec.seed, seen[run.spec.policy], run))
    return [run for _, _, run in sorted(turns, key=lambda turn: turn[:2])]


def comparison_figures(comparison: Comparison) -> list[Figure]:
    """Scatter and distribution of the replay error, and the ranking of the policies in both worlds."""
    report, table = comparison.report, comparison.table
    kv = report["replay"]["kv_transfer"]
    rungs = report["ladder"]
    best = min(rungs, key=lambda rung: rung["median_abs_error"])
    see = [
        f"Half of the {report['replay']['transfers']} transfers are within {kv['median_abs_error']:.0%} of the replay,"
        f" nine in ten within {kv['p90_abs_error']:.0%}; the makespan of"
        f" a run differs by {report['replay']['makespan_error']:+.1%}.",
        f"Nearest in the median comes `{rung_name(best['model'])}` ({best['median_abs_error']:.0%}).",
    ]
    columns = ["run", "request_id", "tier", "kv_bytes", "sharers", "taken_s", *RUNGS, "error"]
    found = [
        Figure(
            key="replay",
            title="How far is the fluid answer from packets?",
            question="The same decisions, paths and start times in both worlds: only the network model differs.",
            see=see,
            panels=[
                Panel("Every transfer", _scatter(table), f"Scatter of transfer times, log scales. {see[0]}"),
                Panel("Error of a transfer", _distribution(table), f"Cumulative distributions of the error. {see[1]}"),
            ],
            table=table[columns],
            notes=["On the diagonal, packets took what the model says. Above it they took longer."],
        )
    ]
    return found + _rankings(report["free"]["rankings"])


def rung_name(rung: str) -> str:
    """What a model of the ladder is called, here and in the static figure."""
    return RUNG_STYLES[rung][0]


def _scatter(table: pd.DataFrame) -> Any:
    plot = new_plot("Fluid replay (ms)", "Packets (ms)", height=360, showlegend=True)
    for tier, rows in table.groupby("tier"):
        name, colour, _ = TIERS[int(str(tier))]
        hover = [
            f"<b>request {row['request_id']}</b>, {plain(row['run'])}<br>{row['kv_bytes'] / 1e9:.2f} GB over {name}"
            f"<br>{1e3 * row['taken_s']:.0f} ms on packets, {1e3 * row[RUNGS[-1]]:.0f} in the model"
            f" ({row['error']:+.0%})"
            for row in rows.to_dict("records")
        ]
        plot.add_scatter(
            x=(1e3 * rows[RUNGS[-1]]).tolist(), y=(1e3 * rows["taken_s"]).tolist(), mode="markers", name=name,
            marker={"color": colour, "symbol": TIER_MARKERS[int(str(tier))], "size": 7, "opacity": 0.65},
            text=hover, hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    both = pd.concat([table[RUNGS[-1]], table["taken_s"]]) * 1e3
    ends = [float(both[both > 0].min()), float(both.max())]
    plot.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": "#000000", "width": 1}, hoverinfo="skip", showlegend=False
    )
    plot.update_xaxes(type="log", dtick=1)
    plot.update_yaxes(type="log", dtick=1)
    plot.update_layout(legend={"orientation": "h", "y": -0.28, "x": 0})
    return plot


def _distribution(table: pd.DataFrame) -> Any:
    plot = new_plot("|error| of a transfer (%)", "Share of transfers (%)", height=360, showlegend=True)
    for rung in RUNGS:
        name, colour, dash = RUNG_STYLES[rung]
        errors = np.sort(np.abs(table["taken_s"] / table[rung] - 1))
        shares = 100 * np.arange(1, len(errors) + 1) / len(errors)
        plot.add_scatter(
            x=(100 * errors).clip(0.1).round(3).tolist(), y=shares.round(2).tolist(), mode="lines", name=name,
            line={"color": colour, "dash": DASHES.get(dash, "solid"), "width": 2.4},
            hovertemplate=f"{plain(name)}<br>%{{y:.0f}} % of transfers within %{{x:.0f}} %<extra></extra>",
        )  # fmt: skip
    plot.update_xaxes(type="log", dtick=1)
    plot.update_yaxes(range=[0, 101])
    plot.update_layout(legend={"orientation": "h", "y": -0.28, "x": 0})
    return plot


def _rankings(rankings: Sequence[dict[str, Any]]) -> list[Figure]:
    """Mean TTFT of every policy in both worlds, a panel a condition."""
    panels, rows, see = [], [], []
    looks = looks_of({policy for ranking in rankings for policy in ranking["policies"]})
    for ranking in rankings:
        emulated, analytic = ranking["mean_ttft_ms"]["emulated"], ranking["mean_ttft_ms"]["analytic"]
        plot = new_plot("", "Mean time to first token (ms)", height=320)
        for policy, one, other in zip(ranking["policies"], emulated, analytic, strict=True):
            look = looks[policy]
            rows.append({"refresh_s": ranking["refresh_s"], "policy": policy, "emulated_ms": one, "analytic_ms": other})
            plot.add_scatter(
                x=[WORLDS["emulated"], WORLDS["analytic"]], y=[one, other], mode="lines+markers", meta=policy,
                name=plain(look.label), line={"color": look.colour, "dash": look.dash, "width": 2.4},
                marker={"symbol": look.marker, "size": 10, "color": look.colour},
                hovertemplate=f"<b>{plain(look.label)}</b><br>%{{x}}: %{{y:.0f}} ms<extra></extra>",
            )  # fmt: skip
        plot.update_xaxes(type="category", range=[-0.25, 1.25])
        low, high = ranking["kendall_tau_interval"]
        text = (
            f"Refresh {ranking['refresh_s']:g} s: Kendall's tau {ranking['kendall_tau']:.2f} [{low:.2f}, {high:.2f}]"
            f" over {len(ranking['policies'])} policies and {ranking['requests']} requests."
        )
        see.append(text)
        panels.append(Panel(f"Refresh {ranking['refresh_s']:g} s", plot, f"Slope chart of mean TTFT. {text}"))
    if not panels:
        return []
    return [
        Figure(
            key="ranking",
            title="Do both worlds rank the policies alike?",
            question="Each world decides for itself; lines that cross are policies whose order differs.",
            see=see,
            panels=panels,
            table=pd.DataFrame(rows),
            legend=list(looks.values()),
        )
    ]
