"""Figure 4: the ablation CLA*, NetKV-Topo-Only, NetKV-Static, NetKV-Full: which step brings how much, and where."""

from __future__ import annotations

import pandas as pd
from rich.table import Table

from experiments.analysis import CAVEAT, OF_TTFT, Interval, ablation_steps, change_column, percent_change
from experiments.drawing import PAIRED_TTFT, BarChart, Chart, change_against, style_of, with_paired_intervals
from experiments.questions.question import ALL_WORKLOADS, SHORT, EmulatedCut, Question, SweepProfile
from experiments.questions.result_tables import MEANS, listing

TITLE = "How much does each step of the ablation bring?"
STEPS = ("cla_star", "netkv_topo_only", "netkv_static", "netkv_full")
STATIC = "netkv_static"
"""What knows the topology and no telemetry: policies that are no step are held against it."""

PROFILES = {
    "quick": SweepProfile(
        seeds=(0, 1, 2, 3, 4),
        workloads=ALL_WORKLOADS,
        span_s=20.0,
        changes={"workload.max_input_tokens": 65_536, **SHORT},
        # One fabric, 15 runs: the paper's three workloads.
        emulated=EmulatedCut(seeds=(0,), workloads=("chatbot", "rag", "long_context")),
    ),
    "full": SweepProfile(
        seeds=(0, 1, 2, 3, 4),
        workloads=ALL_WORKLOADS,
        span_s=120.0,
        changes={"workload.max_output_tokens": 256},
    ),
}


def table(results: pd.DataFrame) -> Table:
    return listing(results, "Mean time to first token, step by step", MEANS)


def sentences(results: pd.DataFrame) -> list[str]:
    """What each step of the ablation adds to the one before it, what all come to, and other policies beside them."""
    said = []
    for (world, workload), rows in results.groupby(["world", "workload"], sort=False):
        by_policy = {str(row["policy"]): row for row in rows.to_dict("records")}
        steps, whole = ablation_steps(by_policy, STEPS)
        if not steps:
            continue
        texts = [
            f"{step.policy} {percent_change(step.change)} on {step.reference} ({OF_TTFT[step.change.significance]})"
            for step in steps
        ]
        text = f"{workload} in the {world} world, mean TTFT step by step: {'; '.join(texts)}"
        if whole:
            text += f"; all steps together {percent_change(whole.change)} on {whole.reference}"
        said.append(f"{text}.")
        if STATIC in by_policy and (others := [name for name in by_policy if name not in ("round_robin", *STEPS)]):
            changes = {name: Interval.of_row(by_policy[name], change_column(STATIC, STEPS)) for name in others}
            beside = [
                f"{name} {percent_change(found)} ({OF_TTFT[found.significance]})" for name, found in changes.items()
            ]
            said.append(f"{workload} in the {world} world, beside {STATIC}: {'; '.join(beside)}.")
    return [*said, CAVEAT] if said else []


def charts(results: pd.DataFrame) -> list[Chart]:
    """Bars, the ablation from left to right."""
    reference = style_of(STEPS[0]).label
    return [
        BarChart(
            name="ablation",
            title=TITLE,
            rows=with_paired_intervals(results),
            note=f"Numbers and whiskers: paired change against {reference}, and its 95 % interval.",
            quantity=PAIRED_TTFT,
            change=change_against(reference, "ttft_change"),
        )
    ]


QUESTION = Question(
    name="ablation",
    title=TITLE,
    asks="CLA*, Topo-Only, Static, Full on every workload profile (Figure 4)",
    axes=(),
    policies=("round_robin", *STEPS),
    references=(STEPS[0], "round_robin", "netkv_topo_only", "netkv_static"),
    profiles=PROFILES,
    table=table,
    sentences=sentences,
    charts=charts,
)
