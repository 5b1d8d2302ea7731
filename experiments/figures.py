"""Static figures for papers: one style, PNG and SVG from the same data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

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
    ("ttft_ms", "Mean time to first token (ms)"),
    ("kv_transfer_ms", "Mean KV transfer (ms)"),
    ("slo_attainment", "Requests within their SLO (%)"),
)


def style_of(policy: str, position: int = 0) -> tuple[str, str, str]:
    """Label, colour and dash of a policy's line."""
    return STYLES.get(policy, (policy, OTHERS[position % len(OTHERS)], "-"))


def draw_staleness(results: pd.DataFrame, out: Path, note: str) -> list[Path]:
    """The staleness figure, a row a world: what happens as the refresh interval grows. Returns the files written."""
    worlds: Sequence[str] = list(dict.fromkeys(results["world"]))
    with plt.rc_context(
        {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "netkv"}
    ):
        figure, axes = plt.subplots(len(worlds), 3, figsize=(12, 3.9 * len(worlds)), squeeze=False)
        for row, world in zip(axes, worlds, strict=True):
            for axis, (column, label) in zip(row, PANELS, strict=True):
                _draw_panel(axis, results[results["world"] == world], column)
                axis.set_ylabel(label)
                axis.set_xlabel("Refresh interval of the network view (s)")
            row[0].set_title(f"{world} world", loc="left", fontweight="bold")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.suptitle("Does an old network view cost NetKV its gain?", x=0.01, ha="left", fontweight="bold")
        figure.legend(handles, labels, loc="upper right", ncols=len(labels), frameon=False)
        figure.text(0.01, 0.005, note, fontsize=8, color="#444444")
        figure.tight_layout(rect=(0, 0.03, 1, 0.94))
        written = [out / "staleness.png", out / "staleness.svg"]
        for place in written:
            figure.savefig(place, dpi=160, metadata={"Date": None} if place.suffix == ".svg" else None)
        plt.close(figure)
    return written


def _draw_panel(axis: Axes, results: pd.DataFrame, column: str) -> None:
    scale = 100 if column == "slo_attainment" else 1
    for position, (policy, rows) in enumerate(results.groupby("policy", sort=False)):
        label, colour, dash = style_of(str(policy), position)
        swept = rows.dropna(subset=["refresh_s"]).sort_values("refresh_s")
        if len(swept):
            axis.plot(
                swept["refresh_s"],
                scale * swept[column],
                color=colour,
                linestyle=dash,
                marker="o",
                label=label,
                zorder=3,
            )
            if column == "ttft_ms":
                axis.fill_between(
                    swept["refresh_s"], swept["ttft_low_ms"], swept["ttft_high_ms"], color=colour, alpha=0.15, lw=0
                )
        else:
            axis.axhline(scale * float(rows[column].iloc[0]), color=colour, linestyle=dash, label=label)
    axis.set_xscale("log")
    ticks = sorted(results["refresh_s"].dropna().unique())
    if ticks:
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
    axis.set_ylim(0, 105 if column == "slo_attainment" else None)
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
