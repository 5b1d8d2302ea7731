"""Figure 2: does NetKV keep its gain when its view of the network is old?

Only who reads telemetry is run at every refresh interval; the others are references and run once a seed. All policies
see the same requests and the same background traffic.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from rich.table import Table

from experiments.analysis import NEVER, paired_change
from experiments.drawing import PAIRED_TTFT, REFRESH, SLO, TBT, Chart, LineChart, with_paired_intervals
from experiments.questions import prediction_error
from experiments.questions import staleness_wording as staleness_words
from experiments.questions.question import ALL_WORKLOADS, SHORT, Profile, Question
from experiments.questions.tables import AGE, INTERVAL, MEANS, listing

TITLE = "Does an old telemetry snapshot cost NetKV its gain?"
BASELINE, WITHOUT_TELEMETRY = "round_robin", "netkv_static"

PROFILES = {
    # Minutes on two cores: prompts of up to 32 k tokens (93 of 100), answers cut at 64 tokens, congestion that moves
    # every few seconds so that a run of about 20 s sees several states of it.
    "quick": Profile(
        refresh_s=(0.1, 1.0, 5.0, 20.0),
        seeds=(0, 1),
        changes={
            "workload.requests": 75,
            "workload.speedup": 1.5,
            "workload.max_input_tokens": 32_768,
            **SHORT,
        },
    ),
    # Two minutes a run: twice the longest refresh interval, so that even the oldest view is replaced once.
    "full": Profile(
        refresh_s=(0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, NEVER),
        seeds=(0, 1, 2, 3, 4),
        changes={"workload.requests": 400, "workload.max_output_tokens": 256},
        workloads=ALL_WORKLOADS,
        span_s=120.0,
    ),
}


def against_freshest(group: pd.DataFrame, beside: pd.DataFrame) -> Mapping[str, float]:
    """What age changes: the same policy at its shortest refresh interval is the reference.

    `aged_change` of TTFT and `aged_kv` of the KV transfer alone; `same_tier`: the share of requests that went over the
    same tier as there; `prediction_error`: median of |predicted - measured| / measured of the transfers.
    """
    of_policy = beside[beside["policy"] == group["policy"].iloc[0]]
    fresh = of_policy[of_policy["refresh_s"] == of_policy["refresh_s"].min()]
    aged, aged_kv = (paired_change(fresh, group, column) for column in ("ttft_ms", "kv_transfer_ms"))
    tiers = [frame[["seed", "request_id", "tier"]] for frame in (fresh, group)]
    pairs = tiers[0].merge(tiers[1], on=["seed", "request_id"])
    moved = group[(group["status"] == "completed") & (group["kv_bytes"] > 0)]
    error = (moved["predicted_kv_transfer_ms"] - moved["kv_transfer_ms"]).abs() / moved["kv_transfer_ms"]
    return {
        "aged_change_percent": aged.percent,
        "aged_change_low": aged.low,
        "aged_change_high": aged.high,
        "aged_kv_percent": aged_kv.percent,
        "aged_kv_low": aged_kv.low,
        "aged_kv_high": aged_kv.high,
        "same_tier": float((pairs["tier_x"] == pairs["tier_y"]).mean()),
        "prediction_error": float(error.median()),
    }


def table(results: pd.DataFrame) -> Table:
    return listing(results, "Mean time to first token as the network view gets older", (INTERVAL, *MEANS, AGE))


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
    asks="how the gain moves as the network view gets older (Figure 2)",
    axes=(),
    policies=("round_robin", "cla", "netkv_static", "netkv_full"),
    references=(BASELINE, WITHOUT_TELEMETRY),
    profiles=PROFILES,
    further=against_freshest,
    table=table,
    sentences=staleness_words.sentences,
    charts=charts,
    request_charts=prediction_error.charts,
)
