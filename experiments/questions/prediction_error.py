"""How wrong predictions of the KV transfer get as the telemetry snapshot ages: the bins, and their chart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from experiments.drawing import PREDICTION_ERROR, SNAPSHOT_AGE, Chart, LineChart

AGE_BINS = 8
FEWEST = 10
"""A bin of fewer predictions than this has no quartiles worth drawing."""


def age_bins(requests: pd.DataFrame) -> pd.DataFrame:
    """Prediction error of the KV transfer by age of the telemetry snapshot.

    A row a world, policy and bin; the bins of a policy hold equally many requests.

    `error`: median of |predicted - measured| / measured; `low` and `high` its quartiles; `age_s` the bin's median age.
    """
    moved = requests[
        (requests["status"] == "completed") & (requests["kv_bytes"] > 0) & (requests["verdict"] != "invalid")
    ]
    moved = moved[np.isfinite(moved["oracle_age_ms"]) & moved["refresh_s"].notna()]
    error = (moved["predicted_kv_transfer_ms"] - moved["kv_transfer_ms"]).abs() / moved["kv_transfer_ms"]
    moved = moved.assign(error=error, age_s=moved["oracle_age_ms"] / 1e3)
    rows = []
    for (world, policy), group in moved.groupby(["world", "policy"], sort=False):
        ranked = group.sort_values("age_s", kind="stable")
        for part in np.array_split(np.arange(len(ranked)), min(AGE_BINS, max(len(ranked) // FEWEST, 1))):
            inside = ranked.iloc[part]
            low, median, high = inside["error"].quantile([0.25, 0.5, 0.75])
            rows.append(
                {
                    "world": world,
                    "policy": policy,
                    "age_s": inside["age_s"].median(),
                    "requests": len(inside),
                    "error": median,
                    "low": low,
                    "high": high,
                }
            )
    return pd.DataFrame(rows, columns=["world", "policy", "age_s", "requests", "error", "low", "high"])


def charts(requests: pd.DataFrame) -> list[Chart]:
    """Prediction error against the age of the telemetry snapshot, a panel a world; none without data."""
    bins = age_bins(requests)
    if bins.empty:
        return []
    return [
        LineChart(
            name="prediction_error",
            title="How wrong do predictions get as the snapshot ages?",
            rows=bins,
            note="The scheduler predicts each KV transfer at the decision, from its last telemetry snapshot. Line:"
            " median of |predicted - measured| / measured; band: quartiles.",
            findings=tuple(_findings(bins)),
            x=SNAPSHOT_AGE,
            quantities=(PREDICTION_ERROR,),
            steps=False,
        )
    ]


def _findings(bins: pd.DataFrame) -> Iterator[str]:
    """The median error with the freshest and the oldest snapshots, of every policy in every world."""
    for (world, policy), rows in bins.groupby(["world", "policy"], sort=False):
        fresh, old = rows.iloc[0], rows.iloc[-1]
        yield (
            f"{policy} in the {world} world: half of the predictions are off by more than {fresh['error']:.0%} with a"
            f" snapshot {fresh['age_s']:.2g} s old, by more than {old['error']:.0%} with one {old['age_s']:.2g} s old."
        )
