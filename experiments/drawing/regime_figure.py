"""The picture of a regime: where the time to first token goes, policy by policy, and what the links carry meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from experiments.drawing.static_style import paper, put_title, save_figure
from experiments.drawing.style import INK, in_order, style_of

REGIME_STEPS = {
    "queue_ms": ("waits for prefill", "#DDDDDD", ""),
    "prefill_ms": ("prefill", "#999999", ""),
    "kv_transfer_ms": ("KV transfer", "#0072B2", "//"),
    "admission_ms": ("waits for decode", "#E69F00", ".."),
    "rest_ms": ("first decode step", "#009E73", ""),
}
"""The steps of a time to first token, in their order: name, colour and hatch."""

LEAST_LABEL = 0.05
"""A step of at least this part of the longest bar has its duration written into it."""


def draw_regime(
    place: Path,
    *,
    title: str,
    note: str,
    steps_ms: Mapping[str, Mapping[str, float]],
    utilisation: NDArray[np.float64],
    span_s: float,
    groups: Sequence[tuple[str, int]],
) -> list[Path]:
    """Write the picture as `place`.png and `place`.svg; returns the files.

    steps_ms: by policy, the mean duration of each of `REGIME_STEPS`. utilisation: 0 to 1, shape [links, times], of
    `span_s` seconds; groups: names of the rows and how many each has, from the top.
    """
    with paper():
        figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.6), layout="constrained", width_ratios=(1.0, 1.15))
        _draw_steps(left, steps_ms)
        shown = right.imshow(
            utilisation, aspect="auto", interpolation="nearest", cmap="magma_r", vmin=0, vmax=1,
            extent=(0, span_s, len(utilisation), 0),
        )  # fmt: skip
        edges = np.cumsum([0, *(count for _, count in groups)])
        right.set_yticks((edges[:-1] + edges[1:]) / 2, [name for name, _ in groups])
        right.tick_params(axis="y", length=0)
        for edge in edges[1:-1]:
            right.axhline(edge, color=INK, lw=0.8)
        right.set(xlabel="Time (s)", title="What the links towards the instances carry")
        figure.colorbar(shown, ax=right, label="Utilisation", pad=0.02)
        put_title(figure, title, note, left)
        return save_figure(figure, place)


def _draw_steps(axis: Axes, steps_ms: Mapping[str, Mapping[str, float]]) -> None:
    """A bar a policy, the steps of its mean TTFT one after another."""
    policies = in_order(steps_ms)[::-1]
    longest_ms = max(sum(steps_ms[policy].values()) for policy in policies)
    ends_ms = dict.fromkeys(policies, 0.0)
    for step, (name, colour, hatch) in REGIME_STEPS.items():
        widths_ms = [steps_ms[policy][step] for policy in policies]
        bars = axis.barh(
            range(len(policies)), widths_ms, left=list(ends_ms.values()), color=colour, hatch=hatch, label=name,
            edgecolor="white", linewidth=0.5, height=0.66,
        )  # fmt: skip
        labels = [f"{width_ms:.0f}" if width_ms >= LEAST_LABEL * longest_ms else "" for width_ms in widths_ms]
        box = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
        for text in axis.bar_label(bars, labels, label_type="center", fontsize=8):
            if text.get_text():
                text.set_bbox(box)
        for policy, width_ms in zip(policies, widths_ms, strict=True):
            ends_ms[policy] += width_ms
    for row, end_ms in enumerate(ends_ms.values()):
        axis.text(end_ms + 0.01 * longest_ms, row, f"{end_ms:.0f}", va="center", fontweight="bold", fontsize=9)
    axis.set_yticks(range(len(policies)), [style_of(policy).label for policy in policies])
    axis.set(xlim=(0, 1.12 * longest_ms), xlabel="Mean time to first token (ms)", title="Where the time goes")
