"""Figure 5: mean TTFT, mean TBT, SLO attainment and decision latency from 64 to 1024 GPUs.

The fabric grows by pods of 32 GPUs, so that every instance keeps its rack and its pod and only what is far grows. The
load grows with it: n times the GPUs get n times the requests at n times the rate, and n times as many hot spots, so
that each instance has as much to do and is hit as often at any size.
"""

from __future__ import annotations

import pandas as pd
from rich.table import Table

from experiments.analysis import (
    CAVEAT,
    OF_TTFT,
    Interval,
    challengers,
    change_column,
    percent_change,
    scale_change,
    tbt_overheads,
)
from experiments.drawing import (
    DECISION,
    GPUS,
    PAIRED_TTFT,
    SLO,
    TBT,
    Chart,
    LineChart,
    style_of,
    with_paired_intervals,
)
from experiments.questions.question import SHORT, Axis, Changes, EmulatedCut, Question, SweepProfile
from experiments.questions.result_tables import DECISION_TIME, MEANS, axis_column, listing
from experiments.running import SpecError, make_spec

TITLE = "Does NetKV-Full keep its gain as the fabric grows?"
REFERENCES = ("cla_star", "round_robin")
BASE_GPUS = 64
"""The size that the workload and the congestion of a specification are meant for."""


def grown(gpus: int, others: Changes) -> Changes:
    """A fabric of so many GPUs, and load and congestion to match. SpecError when pods do not add up to it."""
    spec = make_spec({}, others)
    per_pod = spec.fabric.gpus // spec.fabric.pods
    if gpus % per_pod:
        raise SpecError(f"fabric: pods of {per_pod} GPUs do not add up to {gpus}")
    factor = gpus / BASE_GPUS
    return {
        "fabric.pods": gpus // per_pod,
        "workload.requests": round(spec.workload.requests * factor),
        "workload.speedup": spec.workload.speedup * factor,
        "congestion.hot_spots": max(round(spec.congestion.hot_spots * factor), 1),
    }


SIZE = Axis(
    label=GPUS.column,
    tag="{}gpus",
    own=("fabric.pods",),
    read=lambda spec: spec.fabric.gpus,
    settings=grown,
)

SLOWLY = {"emulation.time_dilation": 2.0}
"""At half speed 128 GPUs ask of the switches what 64 ask at full speed, which was too much for two busy cores (verdict
`invalid`: late timers, bursts at the ports). The analytic world has no such thing."""

PROFILES = {
    "quick": SweepProfile(
        axes={"gpus": (64, 128, 256, 512, 1024)},
        seeds=(0, 1, 2, 3, 4),
        changes={"workload.requests": 75, "workload.max_input_tokens": 65_536, **SHORT, **SLOWLY},
        # Two fabrics of 16 and 32 hosts, 3 runs each.
        emulated=EmulatedCut(axes={"gpus": (64, 128)}, seeds=(0,)),
    ),
    "full": SweepProfile(
        axes={"gpus": (64, 128, 256, 512, 1024)},
        seeds=(0, 1, 2, 3, 4),
        changes={"workload.requests": 400, "workload.max_output_tokens": 256, **SLOWLY},
        emulated=EmulatedCut(axes={"gpus": (64, 128)}),
    ),
}


def table(results: pd.DataFrame) -> Table:
    return listing(results, "As the fabric grows", (axis_column("gpus", "GPUs"), *MEANS, DECISION_TIME))


def sentences(results: pd.DataFrame) -> list[str]:
    """Whether the gain lasts as the fabric grows, and what the decision, the tokens and the objective do."""
    said = []
    for policy in challengers(results, REFERENCES):
        for (world, workload), rows in results[results["policy"] == policy].groupby(["world", "workload"], sort=False):
            ordered = rows.sort_values("gpus")
            beside = results[(results["world"] == world) & (results["workload"] == workload)]
            found = _gains(ordered)
            if len(ordered) > 1:
                found += [*_tokens(ordered, beside), _growth(ordered)]
            said += [f"{policy} on {workload} in the {world} world: {text}." for text in found]
    return [*said, CAVEAT] if said else []


def _gains(rows: pd.DataFrame) -> list[str]:
    said = []
    for reference in REFERENCES:
        prefix = change_column(reference, REFERENCES)
        known = rows.dropna(subset=[f"{prefix}_percent"])
        changes = [Interval.of_row(row, prefix) for _, row in known.iterrows()]
        if changes:
            at = ", ".join(
                f"{percent_change(change)} at {gpus}" for change, gpus in zip(changes, known["gpus"], strict=True)
            )
            said.append(f"mean TTFT against {reference} {at} ({OF_TTFT[changes[-1].significance]} there)")
    return said


def _tokens(rows: pd.DataFrame, beside: pd.DataFrame) -> list[str]:
    overheads, found = tbt_overheads(rows, beside, REFERENCES)
    if found is None:
        return []
    at = " and ".join(f"{one.overhead_ms:+.2f} ms over {one.reference} at {one.gpus} GPUs" for one in overheads)
    return [
        f"mean TBT is at most {at}: {'within' if found.verdict == 'below' else 'NOT within'} {found.bound:g} ms (C7)"
    ]


def _growth(rows: pd.DataFrame) -> str:
    found = scale_change(rows)
    first, last = rows["gpus"].iloc[0], rows["gpus"].iloc[-1]
    return (
        f"SLO attainment moves by {found.slo_points:+.1f} points from {first} to {last} GPUs; a decision takes a median"
        f" of {found.first_us:.0f} us at {first} GPUs and {found.last_us:.0f} us at {last}: {found.decision_ratio:.1f}"
        f" times as long for {found.size_ratio:g} times the instances (C2 bounds it by their number)"
    )


def charts(results: pd.DataFrame) -> list[Chart]:
    """The four quantities over the number of GPUs."""
    return [
        LineChart(
            name="scale",
            title=TITLE,
            rows=with_paired_intervals(results),
            note="Load and hot spots grow with the fabric. Bands: 95 % intervals (TTFT: of the paired change against"
            f" {style_of(REFERENCES[0]).label}). Decision latency: wall-clock time.",
            x=GPUS,
            quantities=(PAIRED_TTFT, TBT, SLO, DECISION),
        )
    ]


QUESTION = Question(
    name="scale",
    title=TITLE,
    asks="64 to 1024 GPUs, load and congestion growing with them (Figure 5)",
    axes=(SIZE,),
    policies=("round_robin", "cla_star", "netkv_full"),
    references=REFERENCES,
    profiles=PROFILES,
    table=table,
    sentences=sentences,
    charts=charts,
)
