"""Figures of the staleness sweep beside the main one: how wrong predictions get with age, and the map."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from experiments.conclusions import interval_name
from experiments.figures import save, style_of

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


def draw_prediction_error(requests: pd.DataFrame, out: Path, note: str) -> list[Path]:
    """Prediction error against the age of the view, a panel a world. Returns the files written; none without data."""
    bins = age_bins(requests)
    if bins.empty:
        return []
    worlds = list(dict.fromkeys(bins["world"]))
    look: dict[Any, Any] = {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "netkv",
    }
    with plt.rc_context(look):
        figure, axes = plt.subplots(
            1, len(worlds), figsize=(5.4 * len(worlds), 4.2), squeeze=False, sharey=True, layout="constrained"
        )
        for axis, world in zip(axes[0], worlds, strict=True):
            for position, (policy, rows) in enumerate(bins[bins["world"] == world].groupby("policy", sort=False)):
                label, colour, dash = style_of(str(policy), position)
                axis.plot(rows["age_s"], 100 * rows["error"], color=colour, linestyle=dash, marker="o", label=label)
                axis.fill_between(rows["age_s"], 100 * rows["low"], 100 * rows["high"], color=colour, alpha=0.18, lw=0)
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter("{x:g}")
            axis.set_ylim(0)
            axis.set_xlabel("Age of the network view at the decision (s)")
            axis.set_title(f"{world} world", loc="left", fontweight="bold")
            axis.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes[0][0].set_ylabel("Error of the predicted KV transfer (%)")
        axes[0][0].legend(frameon=False)
        figure.suptitle("How wrong do predictions get as the view ages?", x=0.01, ha="left", fontweight="bold")
        about = f"{note.partition(' Bands')[0]} Line: median; band: quartiles."
        figure.supxlabel(fill(about, 75 * len(worlds)), fontsize=8, color="#444444")
        return save(figure, out / "prediction_error")


def draw_map(cells: pd.DataFrame, out: Path, note: str) -> list[Path]:
    """The map as a heat map a world; cells whose interval holds zero are in grey type. Returns the files written."""
    worlds = list(dict.fromkeys(cells["world"]))
    refresh_s = sorted(cells["refresh_s"].unique())
    scale_s = sorted(cells["time_scale_s"].unique())
    most = max(float(np.nanmax(cells["gain_percent"].abs())), 1.0)
    width = 2.2 + 0.95 * len(refresh_s)
    with plt.rc_context({"font.size": 10, "svg.hashsalt": "netkv"}):
        figure, axes = plt.subplots(
            1, len(worlds), figsize=(width * len(worlds), 2.2 + 0.5 * len(scale_s)), squeeze=False, layout="constrained"
        )
        for axis, world in zip(axes[0], worlds, strict=True):
            table = cells[cells["world"] == world].set_index(["time_scale_s", "refresh_s"])
            grid = table["gain_percent"].unstack().reindex(index=scale_s, columns=refresh_s)
            image = axis.imshow(grid, origin="lower", cmap="PuOr_r", vmin=-most, vmax=most, aspect="auto")
            for (scale, refresh), cell in table.iterrows():
                sure = cell["gain_low"] > 0 or cell["gain_high"] < 0
                dark = abs(cell["gain_percent"]) > 0.6 * most
                colour = ("white" if dark else "black") if sure else "#777777"
                place = refresh_s.index(refresh), scale_s.index(scale)
                text = f"{cell['gain_percent']:+.1f}"
                axis.text(*place, text, ha="center", va="center", color=colour, fontweight="bold" if sure else "normal")
            names = [interval_name(value).removesuffix(" s") for value in refresh_s]
            axis.set_xticks(range(len(refresh_s)), names)
            axis.set_yticks(range(len(scale_s)), [f"{value:g}" for value in scale_s])
            axis.set_xlabel("Refresh interval of the network view (s)")
            axis.set_ylabel("Mean spell of congestion (s)")
            axis.set_title(f"{world} world", loc="left", fontweight="bold")
        figure.colorbar(image, ax=axes[0].tolist(), label="Mean TTFT saved over NetKV-Static (%)")
        figure.suptitle("Where does an old view cost NetKV-Full its gain over NetKV-Static?", fontweight="bold")
        about = f"{note.partition(' Bands')[0]} Grey: the 95 % interval holds zero."
        figure.supxlabel(fill(about, 110 * len(worlds)), fontsize=8, color="#444444")
        return save(figure, out / "staleness_map")
