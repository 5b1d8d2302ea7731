"""The paper's figures as interactive plots, a builder a question, each with a caption worked out from its numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from experiments.questions import QUESTIONS
from experiments.questions.prediction_error import age_bins
from experiments.questions.results import gains
from experiments.questions.words import interval_name
from experiments.report.collect import Sweep
from experiments.report.looks import WORLDS, PolicyLook, looks_of, plain
from experiments.report.plotting import Figure, Panel, band, line, new_plot

NEVER_AT = 3.0
"""An interval that never ends is drawn this many times right of the longest that does, as in the static figures."""

QUANTITIES = (
    ("ttft_ms", "ttft_low_ms", "ttft_high_ms", "Mean time to first token", "ms", 1.0),
    ("tpot_ms", "tpot_low_ms", "tpot_high_ms", "Mean time between tokens", "ms", 1.0),
    ("slo_attainment", "slo_low", "slo_high", "Requests within their SLO", "%", 100.0),
)


def paper_figures(sweep: Sweep, number: int) -> list[Figure]:
    """Every figure that a sweep holds data for; `number` keeps their keys apart from those of other sweeps."""
    builder = BUILDERS.get(sweep.question)
    return builder(sweep, f"{sweep.question}-{number}") if builder else []


def staleness_figures(sweep: Sweep, key: str) -> list[Figure]:
    """Figure 2, one a world and workload, and how wrong predictions get as the view ages."""
    results = QUESTIONS["staleness"].results(sweep.requests)
    if results.empty:
        return []
    looks = looks_of(results["policy"])
    said = QUESTIONS["staleness"].sentences(results)
    found = []
    for place, ((world, workload), rows) in enumerate(results.groupby(["world", "workload"], sort=False)):
        where = f" on {workload} in the {world} world: "
        panels = [
            Panel(f"{title} ({unit})", _ageing(rows, looks, *names, unit=unit, scale=scale), _alt(rows, title))
            for *names, title, unit, scale in QUANTITIES
        ]
        found.append(
            Figure(
                key=f"{key}-{place}",
                title=f"Figure 2 · Staleness on {WORLDS[str(world)]} ({workload})",
                question="What happens to NetKV's gain when its view of the network gets old?",
                see=[sentence.replace(where, ": ", 1) for sentence in said if where in sentence],
                panels=panels,
                table=rows,
                legend=[looks[policy] for policy in looks if policy in set(rows["policy"])],
                notes=[
                    "Flat lines are policies that read no telemetry. Bands are 95 % bootstrap intervals; that of the"
                    " time to first token is of the paired change since the shortest interval."
                ],
            )
        )
    return found + prediction_figure(sweep, key)


def prediction_figure(sweep: Sweep, key: str) -> list[Figure]:
    """Error of the predicted transfer times by age of the view; nothing where no policy read telemetry."""
    bins = age_bins(sweep.requests)
    if bins.empty:
        return []
    looks = looks_of(bins["policy"])
    panels, see = [], []
    for world, of_world in bins.groupby("world", sort=False):
        plot = new_plot("Age of the network view at the decision (s)", "Error of the predicted KV transfer (%)")
        plot.update_xaxes(type="log")
        plot.update_yaxes(rangemode="tozero")
        for policy, rows in of_world.groupby("policy", sort=False):
            look, rows = looks[str(policy)], rows.sort_values("age_s")
            hover = [
                f"<b>{plain(look.label)}</b><br>view {row['age_s']:.2g} s old: {100 * row['error']:.0f} % off"
                f" (quartiles {100 * row['low']:.0f} to {100 * row['high']:.0f})<br>{row['requests']} transfers"
                for row in rows.to_dict("records")
            ]
            plot.add_trace(band(look, rows["age_s"].tolist(), (100 * rows["low"]).tolist(), (100 * rows["high"]).tolist()))
            plot.add_trace(line(look, rows["age_s"].tolist(), (100 * rows["error"]).tolist(), hover, plain(look.label)))
            fresh, old = rows.iloc[0], rows.iloc[-1]
            see.append(
                f"{look.label} on {WORLDS[str(world)]}: half of the predictions are off by more than"
                f" {fresh['error']:.0%} with a view {fresh['age_s']:.2g} s old, {old['error']:.0%} with one"
                f" {old['age_s']:.2g} s old."
            )
        panels.append(Panel(f"On {WORLDS[str(world)]}", plot, " ".join(see)))
    return [
        Figure(
            key=f"{key}-prediction",
            title="How wrong do predictions get as the view ages?",
            question="The scheduler predicts every transfer it orders; the longer ago it looked, the more it guesses.",
            see=see,
            panels=panels,
            table=bins,
            legend=list(looks.values()),
            notes=["Line: median of |predicted - measured| / measured; band: quartiles."],
        )
    ]


def _ageing(
    rows: pd.DataFrame, looks: Mapping[str, PolicyLook], column: str, low: str, high: str, unit: str, scale: float
) -> Any:
    """One quantity against the refresh interval, a line a policy; those that read no telemetry lie flat."""
    plot = new_plot("Refresh interval of the network view (s)", "")
    swept = sorted(rows["refresh_s"].dropna().unique())
    finite = [value for value in swept if math.isfinite(value)] or [1.0]
    never_s = NEVER_AT * finite[-1]
    places = [min(value, never_s) for value in swept] or finite
    ends = [places[0] / 1.25, places[-1] * 1.25]
    plot.update_xaxes(
        type="log", tickvals=places, ticktext=[interval_name(value).removesuffix(" s") for value in swept],
        range=[math.log10(end) for end in ends],
    )  # fmt: skip
    drawn: list[float] = []
    for policy, of_policy in rows.groupby("policy", sort=False):
        look = looks[str(policy)]
        of_policy = of_policy.sort_values("refresh_s")
        hover = [_hover(look, row, column, low, high, unit, scale) for row in of_policy.to_dict("records")]
        values = (scale * of_policy[column]).tolist()
        drawn += values
        if of_policy["refresh_s"].isna().all():
            flat = {"mode": "lines", "line": {"color": look.colour, "dash": look.dash, "width": 2}}
            steps = [ends[0], *places, ends[1]]
            plot.add_trace(line(look, steps, values * len(steps), hover * len(steps), plain(look.label), **flat))
            continue
        at_s = of_policy["refresh_s"].clip(upper=never_s).tolist()
        lows, highs = (scale * of_policy[low]).tolist(), (scale * of_policy[high]).tolist()
        if column == "ttft_ms":  # requests differ far more than policies do: only pairs of them say anything
            lows, highs = (
                [values[0] * (1 + change / 100) for change in of_policy[side]]
                for side in ("aged_change_low", "aged_change_high")
            )
        drawn += [*lows, *highs]
        plot.add_trace(band(look, at_s, lows, highs))
        plot.add_trace(line(look, at_s, values, hover, plain(look.label)))
    plot.update_yaxes(range=y_range(drawn, percent=scale == 100), ticksuffix=" %" if unit == "%" else "")
    return plot


def y_range(values: Sequence[float], *, percent: bool = False) -> list[float]:
    """Around the values, never so near that nothing looks like much: a tenth of the largest is the least height."""
    known = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(known), max(known)
    if percent:
        return [max(low - 10, 0), 101.5]
    spare = max(0.1 * high - (high - low), 0) / 2 + 0.06 * (high - low)
    return [max(low - spare, 0), high + spare]


def _hover(
    look: PolicyLook, row: Mapping[Any, Any], column: str, low: str, high: str, unit: str, scale: float
) -> str:
    text = f"<b>{plain(look.label)}</b>"
    if not pd.isna(row["refresh_s"]):
        text += f", refresh {interval_name(row['refresh_s'])}"
    digits = 1 if column != "ttft_ms" else 0
    text += f"<br>{scale * row[column]:.{digits}f} {unit}"
    text += f" [{scale * row[low]:.{digits}f} to {scale * row[high]:.{digits}f}]"
    if column == "ttft_ms" and not pd.isna(row["ttft_change_percent"]) and row["policy"] != "round_robin":
        change = f"{row['ttft_change_percent']:+.1f} % [{row['ttft_change_low']:+.1f}, {row['ttft_change_high']:+.1f}]"
        text += f"<br>{change} against round-robin"
    return f"{text}<br>{row['completed']} of {row['requests']} requests"


def _alt(rows: pd.DataFrame, title: str) -> str:
    policies = ", ".join(dict.fromkeys(rows["policy"]))
    return f"Line chart: {title.lower()} by refresh interval for {policies}. The numbers are in the table below."


def map_figures(sweep: Sweep, key: str) -> list[Figure]:
    """Where an old view costs NetKV-Full its gain over NetKV-Static: refresh interval by time scale of the congestion."""
    from experiments.report.heat import heat_panel

    results = QUESTIONS["staleness_map"].results(sweep.requests)
    cells = gains(results, "netkv_full")
    if cells.empty:
        return []
    panels = [
        heat_panel(
            rows,
            row="time_scale_s",
            column="refresh_s",
            title=f"On {WORLDS[str(world)]}",
            axes=("Refresh interval of the network view (s)", "Mean spell of congestion (s)"),
        )
        for world, rows in cells.groupby("world", sort=False)
    ]
    return [
        Figure(
            key=key,
            title="Where telemetry pays: refresh interval by pace of the congestion",
            question="Mean TTFT that NetKV-Full saves over NetKV-Static, which reads no telemetry.",
            see=QUESTIONS["staleness_map"].sentences(results),
            panels=panels,
            table=cells,
            notes=["Percent of NetKV-Static's mean TTFT; a dot marks cells whose 95 % interval holds zero."],
        )
    ]


BUILDERS: dict[str, Callable[[Sweep, str], list[Figure]]] = {
    "staleness": staleness_figures,
    "staleness_map": map_figures,
}
