"""Figure 2: does NetKV keep its gain when its telemetry snapshot is old?

Only who reads telemetry is run at every refresh interval; the others are references and run once a seed. All policies
see the same requests and the same background traffic. Where that moves, the quick profile has runs of constant traffic
of the same mean beside it, as the paper's figure has.
"""

from __future__ import annotations

import math

import pandas as pd
from rich.table import Table

from experiments.analysis import WITHOUT_TELEMETRY, against_freshest, informed
from experiments.drawing import PAIRED_TTFT, REFRESH, SLO, TBT, Chart, LineChart, refresh_in, with_paired_intervals
from experiments.published import paper_set_up
from experiments.questions import prediction_error, staleness_wording
from experiments.questions.question import ALL_WORKLOADS, Axis, Beside, Question, SweepProfile
from experiments.questions.result_tables import INTERVAL, KEPT, MEANS, SNAPSHOTS, listing

CONGESTION = Axis(label="congestion", tag="", field="congestion.kind", read=lambda spec: spec.congestion.kind)

TITLE = "Does an old telemetry snapshot cost NetKV its gain?"
BASELINE = "round_robin"

PROFILES = {
    # The paper's fabric and engine, and a hot spot that moves to some rack every 1.5 s: the paper's own traffic is
    # constant, and telemetry has nothing to tell of that. 168 % of its load in tokens, but in prompts a quarter as long
    # and of less spread: its own few requests of half a minute would show nothing smaller than a third of TTFT. At half
    # the default's NIC rate twice as many packets a blob cost the same. Two dozen connections of the hot spot seldom
    # share a queue of a port with a transfer's, a hundred do.
    "quick": SweepProfile(
        refresh_s=(0.1, 1.0, 5.0),
        seeds=(0, 1, 2),
        control=True,
        axes={"congestion": ("hotspot",)},
        changes={
            **paper_set_up(),
            "workload.mean_input_tokens": 2000,
            "workload.input_spread": 0.4,
            "workload.rate_rps": 8.1,
            "workload.requests": 150,
            "workload.max_output_tokens": 64,
            "congestion.period_s": 1.5,
            "congestion.utilisation": 0.8,
            "congestion.connections": 2,
            "emulation.rate_scale": 2500,
        },
        # The mean of what the hot spot puts on these links.
        beside=Beside(
            tag="constant",
            axes={"congestion": ("constant",)},
            changes={"congestion.utilisation": 0.2, "congestion.tiers": [1, 2, 3]},
            policies=(WITHOUT_TELEMETRY, "netkv_full"),
            refresh_s=(5.0,),
            seeds=(0,),
        ),
    ),
    # Three minutes a run: three times the longest refresh interval and some more.
    "full": SweepProfile(
        refresh_s=(0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0),
        seeds=(0, 1, 2, 3, 4),
        control=True,
        axes={"congestion": ("onoff",)},
        changes={"workload.requests": 400, "workload.max_output_tokens": 256},
        workloads=ALL_WORKLOADS,
        span_s=190.0,
    ),
}


def table(results: pd.DataFrame) -> Table:
    scales_s = ", ".join(f"{scale_s:.3g} s" for scale_s in results["correlation_s"].unique() if math.isfinite(scale_s))
    note = (
        f"; R: refresh interval, s; tau: correlation time of the congestion, {scales_s or 'infinite'}; seen: fewest"
        " snapshots of a run"
    )
    columns = (INTERVAL, SNAPSHOTS, *MEANS, KEPT)
    if results["congestion"].nunique() > 1:
        aged = results.index.isin(staleness_wording.swept(results).index)  # of one age nothing can be kept
        results = results.assign(
            workload=results["workload"] + ", " + results["congestion"],
            retained_percent=results["retained_percent"].where(aged),
        )
    return listing(results, "Mean time to first token as the telemetry snapshot gets older", columns, note)


def charts(results: pd.DataFrame) -> list[Chart]:
    """TTFT, TBT and SLO over the refresh interval, a chart a workload. TTFT's band is that of the paired change."""
    rows = with_paired_intervals(informed(staleness_wording.swept(results)), "aged_change")
    if rows.empty:
        return []
    (correlation_s, *others) = rows["correlation_s"].unique()
    note = (
        "Flat lines: policies that read no telemetry. Bands: 95 % intervals (TTFT: of the paired change since the"
        " shortest interval)."
    )
    if not others and math.isfinite(correlation_s):
        note += f" In brackets: the interval in correlation times of the congestion ({correlation_s:.3g} s)."
    if len(rows) < len(informed(results)):
        note += f" Shown: {', '.join(rows['congestion'].unique())} traffic."
    workloads = list(dict.fromkeys(results["workload"]))
    return [
        LineChart(
            name="staleness" if place == 0 else f"staleness-{workload}",
            title=TITLE,
            rows=rows[rows["workload"] == workload],
            note=f"{note} Shown: {workload}." if len(workloads) > 1 else note,
            x=REFRESH if others else refresh_in(correlation_s),
            quantities=(PAIRED_TTFT, TBT, SLO),
        )
        for place, workload in enumerate(workloads)
    ]


QUESTION = Question(
    name="staleness",
    title=TITLE,
    asks="how the gain moves as the telemetry snapshot gets older (Figure 2)",
    axes=(CONGESTION,),
    policies=("round_robin", staleness_wording.BEST_PUBLIC, "netkv_static", "netkv_full"),
    references=(BASELINE, WITHOUT_TELEMETRY, staleness_wording.BEST_PUBLIC),
    profiles=PROFILES,
    further=against_freshest,
    table=table,
    sentences=staleness_wording.sentences,
    charts=charts,
    request_charts=prediction_error.charts,
)
