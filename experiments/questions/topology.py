"""Figure 1: what NetKV-Full saves over CLA* as the fabric is oversubscribed, at the ToR and at the aggregation.

`--set serving.placement=colocated` is the control in which topology alone decides: prefill and decode on one server.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.table import Table

from experiments.analysis import CAVEAT, against_claim, challengers, changed, gains
from experiments.questions.question import ALL_WORKLOADS, SHORT, Axis, Packets, Profile, Question
from experiments.questions.tables import grid

REFERENCES = ("cla_star", "round_robin")
AT = ("tor_oversubscription", "aggregation_oversubscription")
CLAIMED_PERCENT = -17.6
"""C5: the paper's best mean TTFT against CLA*."""

AXES = (
    Axis(
        label=AT[0],
        name="Oversubscription\nat the ToR (n:1)",
        tag="tor{:g}",
        field="fabric.tor_oversubscription",
        read=lambda spec: float(spec.fabric.tor_oversubscription),
    ),
    Axis(
        label=AT[1],
        name="at the aggregation (n:1)",
        tag="agg{:g}",
        field="fabric.aggregation_oversubscription",
        read=lambda spec: float(spec.fabric.aggregation_oversubscription),
    ),
)

PROFILES = {
    "quick": Profile(
        axes=dict.fromkeys(AT, (1.0, 2.0, 4.0)),
        seeds=(0, 1, 2, 3, 4),
        workloads=ALL_WORKLOADS,
        span_s=20.0,
        changes={"workload.max_input_tokens": 65_536, **SHORT},
        # A fabric a cell: four of them, 12 runs.
        packets=Packets(axes=dict.fromkeys(AT, (1.0, 4.0)), seeds=(0,), workloads=("conversation",)),
    ),
    "full": Profile(
        axes=dict.fromkeys(AT, (1.0, 2.0, 4.0, 8.0)),
        seeds=(0, 1, 2, 3, 4),
        workloads=ALL_WORKLOADS,
        span_s=120.0,
        changes={"workload.max_output_tokens": 256},
        packets=Packets(axes=dict.fromkeys(AT, (1.0, 2.0, 4.0))),
    ),
}


def table(results: pd.DataFrame) -> Table:
    policy = challengers(results, REFERENCES)[0]
    title = f"Mean TTFT saved by {policy} over {REFERENCES[0]}, %"
    return grid(gains(results, policy), title, AT, ("oversubscription at the ToR", "at the aggregation"))


def sentences(results: pd.DataFrame) -> list[str]:
    """In how many fabrics a gain can be told, how large it gets, and whether that is what the paper claims (C5)."""
    said = []
    for policy in challengers(results, REFERENCES):
        for (world, workload), rows in gains(results, policy).groupby(["world", "workload"], sort=False):
            ordered = rows.sort_values(list(AT))
            best = ordered.iloc[int(ordered["gain_percent"].to_numpy().argmax())]
            won, lost = int((rows["gain_low"] > 0).sum()), int((rows["gain_high"] < 0).sum())
            said.append(
                f"{policy} on {workload} in the {world} world: mean TTFT against cla_star {_at(ordered.iloc[0])} and"
                f" {_at(ordered.iloc[-1])}; of {len(rows)} fabrics a gain can be told in {won}, a loss in {lost};"
                f" {against_claim(best, CLAIMED_PERCENT, 'C5')}, at {best[AT[0]]:g}:1 and {best[AT[1]]:g}:1."
            )
    return [*said, CAVEAT] if said else []


def _at(row: pd.Series) -> str:
    return f"{changed(row)} at {row[AT[0]]:g}:1 and {row[AT[1]]:g}:1"


def draw(results: pd.DataFrame, out: Path, note: str) -> list[Path]:
    """A heat map a workload and world, a figure a policy."""
    from experiments.drawing import heat_maps, style_of

    written = []
    for place, policy in enumerate(challengers(results, REFERENCES)):
        cells = gains(results, policy)
        if cells.empty:
            continue
        label = style_of(policy).label
        written += heat_maps(
            cells,
            AT,
            (AXES[0].name, AXES[1].name),
            "Mean TTFT saved\nover CLA* (%)",
            f"What does {label} save over CLA* as the fabric is oversubscribed?",
            note,
            out / ("topology" if place == 0 else f"topology-{policy.replace(':', '.')}"),
        )
    return written


QUESTION = Question(
    name="topology",
    title="What does NetKV-Full save over CLA* as the fabric is oversubscribed?",
    asks="oversubscription at the ToR by oversubscription at the aggregation (Figure 1)",
    axes=AXES,
    policies=("round_robin", "cla_star", "netkv_full"),
    references=REFERENCES,
    profiles=PROFILES,
    table=table,
    sentences=sentences,
    draw=draw,
)
