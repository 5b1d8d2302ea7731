"""How wrong predictions of the KV transfer get as the network view ages: the bins, and their figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

AGE_BINS = 8
FEWEST = 10
"""A bin of fewer predictions than this has no quartiles worth drawing."""


def age_bins(requests: pd.DataFrame) -> pd.DataFrame:
    """Prediction error of the KV transfer by age of the view, a row a world, policy and bin of equally many requests.

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


def draw(requests: pd.DataFrame, out: Path, note: str) -> list[Path]:
    """Prediction error against the age of the view, a panel a world. Returns the files written; none without data."""
    import matplotlib.pyplot as plt

    from experiments.drawing import paper, put_title, save_figure, style_of

    bins = age_bins(requests)
    if bins.empty:
        return []
    worlds = list(dict.fromkeys(bins["world"]))
    with paper():
        figure, axes = plt.subplots(
            1, len(worlds), figsize=(max(4.4 * len(worlds), 6.4), 4.0), squeeze=False, sharey=True, layout="constrained"
        )
        for axis, world in zip(axes[0], worlds, strict=True):
            for policy, rows in bins[bins["world"] == world].groupby("policy", sort=False):
                style = style_of(str(policy))
                low, median, high = (100 * rows[name] for name in ("low", "error", "high"))
                axis.plot(
                    rows["age_s"], median, color=style.colour, ls=style.dash, marker=style.marker, label=style.label
                )
                axis.fill_between(rows["age_s"], low, high, color=style.colour, alpha=0.18, lw=0)
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter("{x:g}")
            axis.set_ylim(0)
            axis.set_xlabel("Age of the network view at the decision (s)")
            axis.set_title(f"{world} world")
            axis.grid(axis="y")
        axes[0][0].set_ylabel("Error of the predicted KV transfer (%)")
        axes[0][0].legend()
        put_title(figure, "How wrong do predictions get as the view ages?", f"{note} Line: median; band: quartiles.")
        return save_figure(figure, out / "prediction_error")
