"""The page style of Matplotlib's figures: fonts, title, note and legend, and how a figure is written to its files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing.style import FAINT, GRID

SETTINGS: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "lines.markersize": 5,
    "svg.hashsalt": "netkv",
}
"""Matplotlib's parameters. The salt makes the names inside an SVG the same every time."""

DPI = 160
TITLE_SIZE = 12
MOST_IN_LINE = 5
"""Names in a line of a legend."""

LETTERS_AN_INCH = 15
TITLE_LETTERS_AN_INCH = 9
"""Letters of the note under a figure, and of its title, on an inch of its width."""


@contextmanager
def paper() -> Iterator[None]:
    """Draw with `SETTINGS`."""
    with plt.rc_context(SETTINGS):
        yield


def put_title(figure: Figure, title: str, note: str, *axes: Axes) -> None:
    """A title above a figure of constrained layout, with one legend of all its `axes`, and a note below it."""
    width_in = figure.get_figwidth()
    title = fill(title, int(TITLE_LETTERS_AN_INCH * width_in))
    legend: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            legend.setdefault(label, handle)
    if legend:
        bold = {"weight": "bold", "size": TITLE_SIZE}
        figure.legend(
            legend.values(), legend.keys(), loc="outside upper left", ncols=MOST_IN_LINE, title=title,
            title_fontproperties=bold, alignment="left", borderpad=0.1,
        )  # fmt: skip
    else:
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=TITLE_SIZE)
    if note:
        figure.supxlabel(fill(note, int(LETTERS_AN_INCH * width_in)), x=0.01, ha="left", fontsize=8, color=FAINT)


def save_figure(figure: Figure, place: Path) -> list[Path]:
    """Write a figure as PNG and SVG beside each other, the same bytes for the same data, and close it."""
    written = [place.with_name(f"{place.name}.png"), place.with_name(f"{place.name}.svg")]
    for one in written:
        figure.savefig(one, dpi=DPI, metadata={"Date": None} if one.suffix == ".svg" else None)
    plt.close(figure)
    return written
