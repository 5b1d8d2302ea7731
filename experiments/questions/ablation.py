"""Figure 4: the ladder CLA*, NetKV-Topo-Only, NetKV-Static, NetKV-Full: which rung brings how much, and where."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd
from rich.table import Table

from experiments.analysis import CAVEAT, change_column, changed, told
from experiments.drawing import PAIRED_TTFT, BarChart, Chart, change_against, style_of, with_paired_intervals
from experiments.questions.question import ALL_WORKLOADS, SHORT, Packets, Profile, Question
from experiments.questions.tables import MEANS, listing

TITLE = "How much does each step of the ablation bring?"
LADDER = ("cla_star", "netkv_topo_only", "netkv_static", "netkv_full")

PROFILES = {
    "quick": Profile(
        seeds=(0, 1, 2, 3, 4),
        workloads=ALL_WORKLOADS,
        span_s=20.0,
        changes={"workload.max_input_tokens": 65_536, **SHORT},
        # One fabric, 15 runs: the paper's three workloads.
        packets=Packets(seeds=(0,), workloads=("chatbot", "rag", "long_context")),
    ),
    "full": Profile(
        seeds=(0, 1, 2, 3, 4),
        workloads=ALL_WORKLOADS,
        span_s=120.0,
        changes={"workload.max_output_tokens": 256},
    ),
}


def table(results: pd.DataFrame) -> Table:
    return listing(results, "Mean time to first token, rung by rung", MEANS)


def sentences(results: pd.DataFrame) -> list[str]:
    """What each rung adds to the one below it, and what the whole ladder comes to."""
    said = []
    for (world, workload), rows in results.groupby(["world", "workload"], sort=False):
        by_policy = {row["policy"]: row for row in rows.to_dict("records")}
        rungs = [name for name in LADDER if name in by_policy]
        steps = []
        for below, rung in pairwise(rungs):
            prefix = change_column(below, LADDER)
            steps.append(f"{rung} {changed(by_policy[rung], prefix)} on {below} ({told(by_policy[rung], prefix)})")
        if not steps:
            continue
        text = f"{workload} in the {world} world, mean TTFT rung by rung: {'; '.join(steps)}"
        if len(steps) > 1 and rungs[0] == LADDER[0]:
            text += f"; the whole ladder {changed(by_policy[rungs[-1]])} on {LADDER[0]}"
        said.append(f"{text}.")
    return [*said, CAVEAT] if said else []


def charts(results: pd.DataFrame) -> list[Chart]:
    """Bars, the ablation from left to right."""
    reference = style_of(LADDER[0]).label
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
    policies=("round_robin", *LADDER),
    references=(LADDER[0], "round_robin", "netkv_topo_only", "netkv_static"),
    profiles=PROFILES,
    table=table,
    sentences=sentences,
    charts=charts,
)
