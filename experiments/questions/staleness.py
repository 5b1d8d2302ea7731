"""Figure 2: does NetKV keep its gain when its telemetry snapshot is old?

Only who reads telemetry is run at every refresh interval; the others are references and run once a seed. All policies
see the same requests and the same background traffic.
"""

from __future__ import annotations

import pandas as pd
from rich.table import Table

from experiments.analysis import NEVER, WITHOUT_TELEMETRY, against_freshest
from experiments.drawing import PAIRED_TTFT, REFRESH, SLO, TBT, Chart, LineChart, with_paired_intervals
from experiments.questions import prediction_error, staleness_wording
from experiments.questions.question import ALL_WORKLOADS, SHORT, Question, SweepProfile
from experiments.questions.result_tables import INTERVAL, KEPT, MEANS, listing

TITLE = "Does an old telemetry snapshot cost NetKV its gain?"
BASELINE = "round_robin"

PROFILES = {
    # Minutes on two cores: prompts of up to 32 k tokens (93 of 100), answers cut at 64 tokens, congestion that moves
    # every few seconds so that a run of about 20 s sees several states of it.
    "quick": SweepProfile(
        refresh_s=(0.1, 1.0, 5.0, 20.0),
        seeds=(0, 1),
        changes={
            "workload.requests": 75,
            "workload.speedup": 1.5,
            "workload.max_input_tokens": 32_768,
            **SHORT,
        },
    ),
    # Two minutes a run: twice the longest refresh interval, so that even the oldest snapshot is replaced once.
    "full": SweepProfile(
        refresh_s=(0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, NEVER),
        seeds=(0, 1, 2, 3, 4),
        changes={"workload.requests": 400, "workload.max_output_tokens": 256},
        workloads=ALL_WORKLOADS,
        span_s=120.0,
    ),
}


def table(results: pd.DataFrame) -> Table:
    return listing(results, "Mean time to first token as the telemetry snapshot gets older", (INTERVAL, *MEANS, KEPT))


def charts(results: pd.DataFrame) -> list[Chart]:
    """TTFT, TBT and SLO over the refresh interval, a chart a workload. TTFT's band is that of the paired change."""
    rows = with_paired_intervals(results, "aged_change")
    note = (
        "Flat lines: policies that read no telemetry. Bands: 95 % intervals (TTFT: of the paired change since the"
        " shortest interval)."
    )
    workloads = list(dict.fromkeys(results["workload"]))
    return [
        LineChart(
            name="staleness" if place == 0 else f"staleness-{workload}",
            title=TITLE,
            rows=rows[rows["workload"] == workload],
            note=f"{note} Shown: {workload}." if len(workloads) > 1 else note,
            x=REFRESH,
            quantities=(PAIRED_TTFT, TBT, SLO),
        )
        for place, workload in enumerate(workloads)
    ]


QUESTION = Question(
    name="staleness",
    title=TITLE,
    asks="how the gain moves as the telemetry snapshot gets older (Figure 2)",
    axes=(),
    policies=("round_robin", "cla", "netkv_static", "netkv_full"),
    references=(BASELINE, WITHOUT_TELEMETRY),
    profiles=PROFILES,
    further=against_freshest,
    table=table,
    sentences=staleness_wording.sentences,
    charts=charts,
    request_charts=prediction_error.charts,
)
