"""The paper's figures as interactive plots, a builder a question, each with a caption worked out from its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from experiments.analysis import CAVEAT, challengers, gains
from experiments.questions import QUESTIONS, age_bins
from experiments.report.bars import bar_panel
from experiments.report.collect import Sweep
from experiments.report.heat import heat_panel
from experiments.report.lines import SLO, TBT, TTFT, Axis, Quantity, line_panel
from experiments.report.looks import WORLDS, PolicyLook, looks_of, plain
from experiments.report.plotting import Figure, Panel, band, line, new_plot

NAMES = {
    "topology": "Figure 1 · Topology",
    "staleness": "Figure 2 · Staleness",
    "staleness_map": "Map of staleness",
    "prefix": "Figure 3 · Prefix sharing",
    "ablation": "Figure 4 · Ablation ladder",
    "scale": "Figure 5 · Scalability",
}
"""Of the figures, by question, in the paper's order."""

NOTE = CAVEAT.replace("Intervals", "Bands and whiskers", 1)


def paper_figures(sweeps: Sequence[Sweep]) -> list[Figure]:
    """Every figure that the sweeps hold data for, in the paper's order, those on packets first."""
    numbered = [(number, sweep) for number, sweep in enumerate(sweeps) if sweep.question in BUILDERS]
    ordered = sorted(numbered, key=lambda pair: (list(NAMES).index(pair[1].question), not pair[1].on_packets, pair[0]))
    return [figure for number, sweep in ordered for figure in _figures(sweep, number)]


def _figures(sweep: Sweep, number: int) -> list[Figure]:
    """The figures of one sweep; `number` keeps their keys apart from those of others."""
    results = QUESTIONS[sweep.question].results(sweep.requests)
    return BUILDERS[sweep.question](sweep, results, f"{sweep.question}-{number}") if len(results) else []


def _staleness(sweep: Sweep, results: pd.DataFrame, key: str) -> list[Figure]:
    """Figure 2, one a world and workload, and how wrong predictions get as the view ages."""
    ordered = results.sort_values("refresh_s", kind="stable")
    fresh = ordered.groupby(["world", "workload", "policy"])["ttft_ms"].transform("first")
    paired = results.assign(
        paired_low=fresh * (1 + results["aged_change_low"] / 100),
        paired_high=fresh * (1 + results["aged_change_high"] / 100),
    )
    ttft = Quantity("ttft_ms", "paired_low", "paired_high", TTFT.name, "ms", 0)
    axis = Axis("refresh_s", "Refresh interval (s)", log=True)
    note = (
        "Flat lines are policies that read no telemetry. The band of the time to first token is that of the paired"
        " change since the shortest interval."
    )
    said = QUESTIONS[sweep.question].sentences(results)
    return [*_lines(sweep, paired, said, key, axis, (ttft, TBT, SLO), [note, NOTE]), *_prediction(sweep, key)]


def _prefix(sweep: Sweep, results: pd.DataFrame, key: str) -> list[Figure]:
    """Figure 3: TTFT by share of requests with a common prefix, and the change against CLA* and CA."""
    changes = [
        Quantity(f"{prefix}_percent", f"{prefix}_low", f"{prefix}_high", f"Mean TTFT against {name}", "%", 1, zero=True)
        for prefix, name in (("ttft_change", "CLA*"), ("ttft_change_ca", "CA"))
    ]
    shown = results.assign(sharing=100 * results["sharing"])
    for policy, change in (("cla_star", changes[0]), ("ca", changes[1])):  # a line at zero says nothing
        shown.loc[shown["policy"] == policy, change.column] = float("nan")
    axis = Axis("sharing", "Requests that share a document (%)")
    ttft = Quantity(TTFT.column, TTFT.low, TTFT.high, TTFT.name, "ms", 0, log=True)
    said = QUESTIONS[sweep.question].sentences(results)
    return _lines(sweep, shown, said, key, axis, (ttft, *changes), [NOTE])


def _scale(sweep: Sweep, results: pd.DataFrame, key: str) -> list[Figure]:
    """Figure 5: four quantities from 64 to 1024 GPUs."""
    decision = Quantity("decision_us", None, None, "Mean decision latency", "µs", 0, log=True)
    known = results["decision_us"].notna().any()
    note = "Load and hot spots grow with the fabric."
    quantities = (TTFT, TBT, SLO, decision) if known else (TTFT, TBT, SLO)
    said = QUESTIONS[sweep.question].sentences(results)
    return _lines(sweep, results, said, key, Axis("gpus", "GPUs", log=True), quantities, [note, NOTE])


def _lines(
    sweep: Sweep,
    results: pd.DataFrame,
    said: Sequence[str],
    key: str,
    axis: Axis,
    quantities: Sequence[Quantity],
    notes: Sequence[str],
) -> list[Figure]:
    """A figure a world and workload, a panel a quantity."""
    looks = looks_of(results["policy"])
    found = []
    for place, ((world, workload), rows) in enumerate(results.groupby(["world", "workload"], sort=False)):
        panels = [line_panel(rows, looks, axis, quantity) for quantity in quantities]
        about = _about(said, str(world), str(workload))
        found.append(_figure(sweep, f"{key}-{place}", str(world), str(workload), about, panels, rows, looks, notes))
    return found


def _ablation(sweep: Sweep, results: pd.DataFrame, key: str) -> list[Figure]:
    """Figure 4, one a world: the ladder's bars, a panel a workload."""
    looks = looks_of(results["policy"])
    said = QUESTIONS[sweep.question].sentences(results)
    found = []
    for place, (world, rows) in enumerate(results.groupby("world", sort=False)):
        panels = [
            bar_panel(of_workload, looks, str(name)) for name, of_workload in rows.groupby("workload", sort=False)
        ]
        about = _about(said, str(world), None)
        note = "The number on a bar is its paired change against CLA* in percent."
        found.append(_figure(sweep, f"{key}-{place}", str(world), "", about, panels, rows, looks, [note, NOTE]))
    return found


def _topology(sweep: Sweep, results: pd.DataFrame, key: str) -> list[Figure]:
    """Figure 1, one a world and policy: a heat map a workload on one scale of colours."""
    axes = ("Oversubscription at the ToR (n:1)", "At the aggregation (n:1)")
    at = ("tor_oversubscription", "aggregation_oversubscription")
    return _heat(sweep, results, key, at, axes, "percent of CLA*'s mean TTFT saved")


def _map(sweep: Sweep, results: pd.DataFrame, key: str) -> list[Figure]:
    """Where an old view costs a policy its gain over NetKV-Static."""
    axes = ("Mean spell of congestion (s)", "Refresh interval (s)")
    return _heat(sweep, results, key, ("time_scale_s", "refresh_s"), axes, "percent of NetKV-Static's mean TTFT saved")


def _heat(
    sweep: Sweep, results: pd.DataFrame, key: str, at: tuple[str, str], axes: tuple[str, str], what: str
) -> list[Figure]:
    question = QUESTIONS[sweep.question]
    said = question.sentences(results)
    found: list[Figure] = []
    for policy in challengers(results, question.references):
        cells = gains(results, policy)
        for world, rows in cells.groupby("world", sort=False):
            most = max(float(rows["gain_percent"].abs().max()), 1.0)
            panels = [
                heat_panel(of_workload, column=at[0], row=at[1], title=str(name), axes=axes, most=most)
                for name, of_workload in rows.groupby("workload", sort=False)
            ]
            about = [sentence for sentence in _about(said, str(world), None) if sentence.startswith(policy)]
            note = f"Cells: {what} by {policy}. A number in light type with a dot: its interval holds zero."
            place = f"{key}-{len(found)}"
            found.append(_figure(sweep, place, str(world), "", about, panels, rows, {}, [note, CAVEAT]))
    return found


def _prediction(sweep: Sweep, key: str) -> list[Figure]:
    """Error of the predicted transfer times by age of the view; nothing where no policy read telemetry."""
    bins = age_bins(sweep.requests)
    if bins.empty:
        return []
    looks = looks_of(bins["policy"])
    panels, see = [], []
    for world, of_world in bins.groupby("world", sort=False):
        plot = new_plot("Age of the view at the decision (s)", "Error of the prediction (%)")
        plot.update_xaxes(type="log", dtick=1)
        plot.update_yaxes(rangemode="tozero")
        for policy, of_policy in of_world.groupby("policy", sort=False):
            look, rows = looks[str(policy)], of_policy.sort_values("age_s")
            hover = [
                f"<b>{plain(look.label)}</b><br>view {row['age_s']:.2g} s old: {100 * row['error']:.0f} % off"
                f" (quartiles {100 * row['low']:.0f} to {100 * row['high']:.0f})<br>{row['requests']} transfers"
                for row in rows.to_dict("records")
            ]
            at_s, low, median, high = (
                (scale * rows[name]).tolist()
                for name, scale in (("age_s", 1), ("low", 100), ("error", 100), ("high", 100))
            )
            plot.add_trace(band(look, at_s, low, high))
            plot.add_trace(line(look, at_s, median, hover, plain(look.label)))
            fresh, old = rows.iloc[0], rows.iloc[-1]
            see.append(
                f"{look.label} on {WORLDS[str(world)]}: half of the predictions are off by more than"
                f" {fresh['error']:.0%} with a view {fresh['age_s']:.2g} s old, by more than {old['error']:.0%} with"
                f" one {old['age_s']:.2g} s old."
            )
        panels.append(Panel(f"On {WORLDS[str(world)]}", plot, " ".join(see)))
    return [
        Figure(
            key=f"{key}-prediction",
            title="How wrong do predictions get as the view ages?",
            question="The scheduler predicts every KV transfer before it orders it, from its last look at the network.",
            see=see,
            panels=panels,
            table=bins,
            legend=list(looks.values()),
            notes=["Line: median of |predicted - measured| / measured; band: quartiles."],
        )
    ]


def _figure(
    sweep: Sweep,
    key: str,
    world: str,
    workload: str,
    see: Sequence[str],
    panels: Sequence[Panel],
    table: pd.DataFrame,
    looks: dict[str, PolicyLook],
    notes: Sequence[str],
) -> Figure:
    load = f", {workload}" if workload else ""
    legend = [look for policy, look in looks.items() if policy in set(table["policy"])]
    title = f"{NAMES[sweep.question]} on {WORLDS[world]}{load}"
    return Figure(key, title, QUESTIONS[sweep.question].title, see, panels, table, legend, notes)


def _about(said: Sequence[str], world: str, workload: str | None) -> list[str]:
    """The sentences about a world (and workload), without saying again which that is."""
    found = []
    for sentence in said:
        if f" in the {world} world" not in sentence:
            continue
        if workload is None:
            found.append(sentence.replace(f" in the {world} world", "", 1))
        elif f"{workload} in the {world} world" in sentence:
            found.append(sentence.replace(f" on {workload} in the {world} world", "", 1))
    return found


BUILDERS: dict[str, Callable[[Sweep, pd.DataFrame, str], list[Figure]]] = {
    "topology": _topology,
    "staleness": _staleness,
    "staleness_map": _map,
    "prefix": _prefix,
    "ablation": _ablation,
    "scale": _scale,
}
