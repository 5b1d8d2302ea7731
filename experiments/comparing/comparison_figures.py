"""The figure of a comparison: every emulated KV transfer against the model, and how the error is distributed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.comparing.recorded_run import REPLAY, measured_models
from experiments.drawing import (
    EMULATED_TRANSFER,
    MODEL_STYLES,
    SHARE_OF_TRANSFERS,
    TIER_STYLES,
    TRANSFER_ERROR,
    modelled_transfer,
)

COMPARISON_TITLE = "How far is the fluid model from the emulation?"
LEAST_ERROR_PERCENT = 0.1
"""Smaller errors are drawn here: the axis is logarithmic."""

NEAREST = modelled_transfer(REPLAY, "fluid replay")
"""The model that the scatter compares with."""


def error_distribution(table: pd.DataFrame, model: str) -> tuple[list[float], list[float]]:
    """Absolute errors of a model in percent, ascending, and for each the share of transfers within it, in percent."""
    errors = np.sort(np.abs(table[EMULATED_TRANSFER.column] / table[model] - 1).dropna())
    shares = 100 * np.arange(1, len(errors) + 1) / len(errors)
    return (100 * errors).clip(LEAST_ERROR_PERCENT).tolist(), shares.tolist()


def diagonal(table: pd.DataFrame) -> tuple[float, float]:
    """Ends of the line on which both worlds agree, ms."""
    both = [time for quantity in (NEAREST, EMULATED_TRANSFER) for time in quantity.values(table) if time > 0]
    return min(both), max(both)


def draw_comparison(table: pd.DataFrame, report: dict[str, Any], out: Path) -> list[Path]:
    """Scatter and cumulative distribution as `comparison.png` and `.svg` in `out`. Returns the files written."""
    import matplotlib.pyplot as plt

    from experiments.drawing import paper, put_title, save_figure

    with paper():
        figure, (scatter, distribution) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
        for tier, rows in table.groupby("tier"):
            style = TIER_STYLES[int(str(tier))]
            scatter.scatter(
                NEAREST.values(rows), EMULATED_TRANSFER.values(rows), s=14, c=style.colour, marker=style.marker,
                alpha=0.6, label=style.label, lw=0,
            )  # fmt: skip
        ends = diagonal(table)
        scatter.plot(ends, ends, color="#000000", lw=0.8)
        scatter.set(xscale="log", yscale="log", xlabel=NEAREST.label, ylabel=EMULATED_TRANSFER.label)
        scatter.set_title("Each point a transfer; above the line the emulation took longer")
        scatter.legend()
        for model in measured_models(table):
            style = MODEL_STYLES[model]
            errors, shares = error_distribution(table, model)
            distribution.plot(errors, shares, color=style.colour, linestyle=style.dash, label=style.label)
        distribution.set(xscale="log", xlabel=TRANSFER_ERROR.label, ylabel=SHARE_OF_TRANSFERS.label, ylim=(0, 100.5))
        distribution.xaxis.set_major_formatter("{x:g}")
        distribution.set_title("Further left is nearer")
        distribution.legend(loc="lower right")
        for axis in (scatter, distribution):
            axis.grid()
        note = f"{report['replay']['transfers']} transfers of {report['runs']} runs ({', '.join(report['verdicts'])})"
        put_title(figure, COMPARISON_TITLE, note)
        return save_figure(figure, out / "comparison")
