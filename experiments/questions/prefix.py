"""Figure 3: does NetKV-Full keep its advantage over CA and CLA* as more RAG requests share a prefix?"""

from __future__ import annotations

import math

import pandas as pd
from rich.table import Table

from experiments.analysis import CAVEAT, challengers, change_column, constancy, percent_change
from experiments.drawing import PAIRED_TTFT, SHARING, Chart, LineChart, change_against, style_of, with_paired_intervals
from experiments.questions.question import SHORT, Axis, Changes, EmulatedCut, Question, SweepProfile
from experiments.questions.result_tables import MEANS, axis_column, listing
from experiments.running import SpecError

TITLE = "Does NetKV-Full keep its advantage as more requests share a prefix?"
REFERENCES = ("cla_star", "ca")


def shared(share: float, others: Changes) -> Changes:
    """So much of the generator's requests with a prefix in common. SpecError for a trace, which has its own."""
    if "workload.trace" in others:
        raise SpecError("workload.trace: a trace shares what it shares; this sweep varies the generator")
    return {"workload.sharing": share}


SHARED = Axis(
    label=SHARING.column,
    tag="sharing{:g}",
    field="workload.sharing",
    read=lambda spec: spec.workload.sharing,
    settings=shared,
)

PROFILES = {
    "quick": SweepProfile(
        axes={"sharing": (0.0, 0.25, 0.5, 0.75, 1.0)},
        seeds=(0, 1, 2, 3, 4),
        workloads=("rag",),
        span_s=20.0,
        changes=SHORT,
        # One fabric, 9 runs.
        emulated=EmulatedCut(axes={"sharing": (0.0, 0.5, 1.0)}, seeds=(0,)),
    ),
    "full": SweepProfile(
        axes={"sharing": (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)},
        seeds=(0, 1, 2, 3, 4),
        workloads=("rag",),
        span_s=240.0,
        changes={"workload.max_output_tokens": 256},
    ),
}


def table(results: pd.DataFrame) -> Table:
    return listing(results, "Mean TTFT as more requests share a prefix", (axis_column("sharing", "sharing"), *MEANS))


def sentences(results: pd.DataFrame) -> list[str]:
    """Whether the advantage over each reference is the same at every share, as the paper's caption has it."""
    said = []
    for policy in challengers(results, REFERENCES):
        for (world, workload), rows in results[results["policy"] == policy].groupby(["world", "workload"], sort=False):
            ordered = rows.sort_values("sharing")
            for reference in REFERENCES:
                prefix = change_column(reference, REFERENCES)
                known = ordered.dropna(subset=[f"{prefix}_percent"])
                if len(known) > 1:
                    where = f"{policy} on {workload} in the {world} world"
                    said.append(f"{where}: mean TTFT against {reference} {_over(known, prefix)}.")
    return [*said, CAVEAT] if said else []


def _over(rows: pd.DataFrame, prefix: str) -> str:
    found = constancy(rows, prefix)
    text = (
        f"{percent_change(found.first)} with {rows['sharing'].iloc[0]:.0%} sharing, {percent_change(found.last)} with"
        f" {rows['sharing'].iloc[-1]:.0%}; a significant gain at {found.gains} of {found.count} shares; it moves by"
        f" {found.moves_points:.1f} points"
    )
    if found.verdict == "not refuted":
        return f"{text}, which the intervals allow: `roughly constant` is not refuted"
    return f"{text}, more than the intervals allow: it is not constant"


def charts(results: pd.DataFrame) -> list[Chart]:
    """TTFT of every policy, and the change against each reference."""
    rows, quantities = with_paired_intervals(results), [PAIRED_TTFT]
    for reference in REFERENCES:
        change = change_against(style_of(reference).label, change_column(reference, REFERENCES))
        rows.loc[rows["policy"] == reference, change.column] = math.nan  # a reference's line would be at zero
        quantities.append(change)
    note = (
        f"Bands: 95 % intervals of the paired change (left: against {style_of(REFERENCES[0]).label})."
        " Below zero: sooner than the reference."
    )
    return [LineChart(name="prefix", title=TITLE, rows=rows, note=note, x=SHARING, quantities=tuple(quantities))]


QUESTION = Question(
    name="prefix",
    title=TITLE,
    asks="the share of RAG requests that have a prefix in common (Figure 3)",
    axes=(SHARED,),
    policies=("ca", "cla_star", "netkv_full"),
    references=REFERENCES,
    profiles=PROFILES,
    table=table,
    sentences=sentences,
    charts=charts,
)
