"""Static figures for papers: one style, PNG and SVG from the same data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colour-blind-safe palette (jfly.uni-koeln.de/color); a dash pattern each tells them apart in grey.
STYLES: dict[str, tuple[str, str, str]] = {
    "round_robin": ("Round-robin", "#000000", ":"),
    "cla": ("CLA", "#E69F00", "-."),
    "netkv_topo_only": ("NetKV-Topo-Only", "#CC79A7", (0, (1, 1))),  # type: ignore[dict-item]
    "netkv_static": ("NetKV-Static", "#0072B2", "--"),
    "netkv_full": ("NetKV-Full", "#D55E00", "-"),
}
OTHERS = ("#009E73", "#56B4E9", "#F0E442", "#999999")

PANELS = (
    ("ttft_ms", "ttft_low_ms", "ttft_high_ms", "Mean time to first token (ms)"),
    ("tpot_ms", "tpot_low_ms", "tpot_high_ms", "Mean time between tokens (ms)"),
    ("slo_attainment", "slo_low", "slo_high", "Requests within their SLO (%)"),
)
NEVER_AT = 3.0
"""An interval that never ends is drawn this many times right of the longest that does."""


def style_of(policy: str, position: int = 0) -> tuple[str, str, str]:
    """Label, colour and dash of a policy's line."""
    return STYLES.get(policy, (policy, OTHERS[position % len(OTHERS)], "-"))


def draw_staleness(results: pd.DataFrame, out: Path, note: str) -> list[Path]:
    """The staleness figure, a row a world: what happens as the refresh interval grows. Returns the files written.

    Several workloads have a figure each, the first one `staleness`, the others with the workload's name behind it.
    """
    written = []
    workloads = list(dict.fromkeys(results["workload"]))
    for place, workload in enumerate(workloads):
        name = "staleness" if place == 0 else f"staleness-{workload}"
        about = f"{note} Shown: {workload}." if len(workloads) > 1 else note
        written += _draw_workload(results[results["workload"] == workload], out / name, about)
    return written


def _draw_workload(results: pd.DataFrame, place: Path, note: str) -> list[Path]:
    worlds: Sequence[str] = list(dict.fromkeys(results["world"]))
    with plt.rc_context(
        {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "netkv"}
    ):
        figure, axes = plt.subplots(len(worlds), 3, figsize=(12, 3.9 * len(worlds)), squeeze=False)
        for row, world in zip(axes, worlds, strict=True):
            of_world = results[results["world"] == world]
            for axis, (column, low, high, label) in zip(row, PANELS, strict=True):
                _draw_panel(axis, of_world, column, low, high)
                axis.set_ylabel(label)
                axis.set_xlabel("Refresh interval of the network view (s)")
            row[0].set_title(f"{world} world", loc="left", fontweight="bold")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.suptitle("Does an old network view cost NetKV its gain?", x=0.01, ha="left", fontweight="bold")
        figure.legend(handles, labels, loc="upper right", ncols=len(labels), frameon=False)
        figure.text(0.01, 0.005, note, fontsize=8, color="#444444")
        figure.tight_layout(rect=(0, 0.03, 1, 0.94))
        return save(figure, place)


def save(figure: Figure, place: Path) -> list[Path]:
    """Write a figure as PNG and SVG, the same bytes for the same data, and close it."""
    written = [place.with_name(f"{place.name}.png"), place.with_name(f"{place.name}.svg")]
    for one in written:
        figure.savefig(one, dpi=160, metadata={"Date": None} if one.suffix == ".svg" else None)
    plt.close(figure)
    return written


def _draw_panel(axis: Axes, results: pd.DataFrame, column: str, low: str, high: str) -> None:
    scale = 100 if column == "slo_attainment" else 1
    intervals = sorted(results["refresh_s"].dropna().unique())
    finite = [interval for interval in intervals if math.isfinite(interval)]
    never_s = NEVER_AT * max(finite, default=1.0)
    for position, (policy, rows) in enumerate(results.groupby("policy", sort=False)):
        label, colour, dash = style_of(str(policy), position)
        swept = rows.dropna(subset=["refresh_s"]).sort_values("refresh_s")
        if len(swept):
            at_s = swept["refresh_s"].clip(upper=never_s)
            axis.plot(at_s, scale * swept[column], color=colour, linestyle=dash, marker="o", label=label, zorder=3)
            bands = (scale * swept[low], scale * swept[high])
            if column == "ttft_ms":  # requests differ far more than policies do: only pairs of them say anything
                fresh = swept["ttft_ms"].iloc[0]
                bands = tuple(fresh * (1 + swept[side] / 100) for side in ("aged_change_low", "aged_change_high"))
            axis.fill_between(at_s, *bands, color=colour, alpha=0.18, lw=0)
        else:
            axis.axhline(scale * float(rows.iloc[0][column]), color=colour, linestyle=dash, label=label)
    axis.set_xscale("log")
    if intervals:
        named = [(min(tick, never_s), f"{tick:g}" if math.isfinite(tick) else "never") for tick in intervals]
        axis.set_xticks([at for at, _ in named], [name for _, name in named])
        axis.minorticks_off()
    if column == "slo_attainment":
        axis.set_ylim(max(axis.get_ylim()[0] - 5, 0), 101)
    else:  # never so near that nothing looks like much: a tenth of the mean is the least height
        low_y, high_y = axis.get_ylim()
        spare = max(0.1 * high_y - (high_y - low_y), 0) / 2
        axis.set_ylim(max(low_y - spare, 0), high_y + spare)
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
