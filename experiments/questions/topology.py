"""Figure 1: what NetKV-Full saves over CLA* as the fabric is oversubscribed, at the ToR and at the aggregation.

`--set serving.placement=colocated` is the control in which topology alone decides: prefill and decode on one server.
"""

from __future__ import annotations

import pandas as pd
from rich.table import Table

from experiments.analysis import (
    CAVEAT,
    Interval,
    beside_claim,
    challengers,
    gains,
    largest_row_gain,
    margins,
    percent_change,
)
from experiments.drawing import (
    AGGREGATION_OVERSUBSCRIPTION,
    TOR_OVERSUBSCRIPTION,
    Chart,
    HeatMap,
    gain_over,
    style_of,
)
from experiments.questions.question import ALL_WORKLOADS, SHORT, Axis, EmulatedCut, Question, SweepProfile
from experiments.questions.result_tables import grid

REFERENCES = ("cla_star", "round_robin")
AT = (TOR_OVERSUBSCRIPTION.column, AGGREGATION_OVERSUBSCRIPTION.column)

AXES = (
    Axis(
        label=AT[0],
        tag="tor{:g}",
        field="fabric.tor_oversubscription",
        read=lambda spec: float(spec.fabric.tor_oversubscription),
    ),
    Axis(
        label=AT[1],
        tag="agg{:g}",
        field="fabric.aggregation_oversubscription",
        read=lambda spec: float(spec.fabric.aggregation_oversubscription),
    ),
)

PROFILES = {
    "quick": SweepProfile(
        axes=dict.fromkeys(AT, (1.0, 2.0, 4.0)),
        seeds=(0, 1, 2, 3, 4),
        workloads=ALL_WORKLOADS,
        span_s=20.0,
        changes={"workload.max_input_tokens": 65_536, **SHORT},
        # A fabric a cell: four of them, 12 runs.
        emulated=EmulatedCut(axes=dict.fromkeys(AT, (1.0, 4.0)), seeds=(0,), workloads=("conversation",)),
    ),
    "full": SweepProfile(
        axes=dict.fromkeys(AT, (1.0, 2.0, 4.0, 8.0)),
        seeds=(0, 1, 2, 3, 4),
        workloads=ALL_WORKLOADS,
        span_s=120.0,
        changes={"workload.max_output_tokens": 256},
        emulated=EmulatedCut(axes=dict.fromkeys(AT, (1.0, 2.0, 4.0))),
    ),
}


def table(results: pd.DataFrame) -> Table:
    policy = challengers(results, REFERENCES)[0]
    title = f"Mean TTFT saved by {policy} over {REFERENCES[0]}, %"
    return grid(gains(results, policy), title, AT, ("oversubscription at the ToR", "at the aggregation"))


def sentences(results: pd.DataFrame) -> list[str]:
    """In how many fabrics a gain is significant, how large it gets, and how it compares with the paper's (C5)."""
    said = []
    for policy in challengers(results, REFERENCES):
        of_policy = results[results["policy"] == policy].dropna(subset=["ttft_change_percent"])
        for (world, workload), rows in of_policy.groupby(["world", "workload"], sort=False):
            ordered = rows.sort_values(list(AT))
            found, best = largest_row_gain(ordered, margins.CLAIMED_SAVED_OVER_CLA_STAR_PERCENT)
            at = ordered.iloc[found.best]
            said.append(
                f"{policy} on {workload} in the {world} world: mean TTFT against cla_star {_at(ordered.iloc[0])} and"
                f" {_at(ordered.iloc[-1])}; of {len(rows)} fabrics {found.gains} show a significant gain,"
                f" {found.losses} a significant loss; {beside_claim(best, found, 'C5')}, at {at[AT[0]]:g}:1 and"
                f" {at[AT[1]]:g}:1."
            )
    return [*said, CAVEAT] if said else []


def _at(row: pd.Series) -> str:
    return f"{percent_change(Interval.of_row(row, 'ttft_change'))} at {row[AT[0]]:g}:1 and {row[AT[1]]:g}:1"


def charts(results: pd.DataFrame) -> list[Chart]:
    """A heat map a workload and world, a chart a policy."""
    found: list[Chart] = []
    for place, policy in enumerate(challengers(results, REFERENCES)):
        label, reference = style_of(policy).label, style_of(REFERENCES[0]).label
        cells = gains(results, policy)
        if len(cells):
            found.append(
                HeatMap(
                    name="topology" if place == 0 else f"topology-{policy.replace(':', '.')}",
                    title=f"What does {label} save over {reference} as the fabric is oversubscribed?",
                    rows=cells,
                    policy=policy,
                    x=AGGREGATION_OVERSUBSCRIPTION,
                    y=TOR_OVERSUBSCRIPTION,
                    value=gain_over(reference),
                )
            )
    return found


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
    charts=charts,
)
