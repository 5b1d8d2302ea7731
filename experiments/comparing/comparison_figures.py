"""Figures of a comparison: every transfer on packets against the model, and how the error is distributed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from experiments.comparing.recorded_run import RUNGS
from experiments.drawing import paper, put_title, save_figure

# Okabe and Ito's colour-blind-safe palette, as in `figures`.
TIERS = {0: ("same server", "#009E73", "v"), 1: ("same rack", "#0072B2", "o"), 2: ("same pod", "#E69F00", "s"),
         3: ("across pods", "#D55E00", "^")}  # fmt: skip
RUNG_STYLES = {
    "closed_form": ("Closed form", "#999999", ":"),
    "fluid_ideal": ("Fluid, ideal spreading", "#56B4E9", "-."),
    "fluid_paths": ("Fluid, paths taken", "#0072B2", "--"),
    "fluid_frames": ("... and frame headers", "#D55E00", "-"),
}


def draw_comparison(table: pd.DataFrame, report: dict[str, Any], out: Path) -> list[Path]:
    """Scatter and CDF as `comparison.png` and `.svg` in `out`. Returns the files written."""
    with paper():
        figure, (scatter, distribution) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
        for tier, rows in table.groupby("tier"):
            label, colour, marker = TIERS[int(str(tier))]
            scatter.scatter(
                1e3 * rows[RUNGS[-1]],
                1e3 * rows["taken_s"],
                s=14,
                c=colour,
                marker=marker,
                alpha=0.6,
                label=label,
                lw=0,
            )
        ends = 1e3 * np.array([table[RUNGS[-1]].min(), table["taken_s"].max()])
        scatter.plot(ends, ends, color="#000000", lw=0.8)
        scatter.set(xscale="log", yscale="log", xlabel="Fluid replay (ms)", ylabel="Packets (ms)")
        scatter.legend()
        for rung in RUNGS:
            label, colour, dash = RUNG_STYLES[rung]
            errors = np.sort(np.abs(table["taken_s"] / table[rung] - 1))
            shares = np.arange(1, len(errors) + 1) / len(errors)
            distribution.plot(100 * errors, shares, color=colour, linestyle=dash, label=label)
        distribution.set(xscale="symlog", xlabel="|error| of a transfer (%)", ylabel="Share of transfers", ylim=(0, 1))
        distribution.legend(loc="lower right")
        for axis in (scatter, distribution):
            axis.grid()
        note = f"{report['replay']['transfers']} transfers of {report['runs']} runs ({', '.join(report['verdicts'])})"
        put_title(figure, "How far is the fluid answer from packets?", note)
        return save_figure(figure, out / "comparison")
