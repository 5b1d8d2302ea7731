"""The one style of our static figures: how a policy looks, what a page looks like, and how it is written.

Every figure that goes into a paper or a page of documentation is drawn inside `paper()` and written by `save`: PNG and
SVG, the same bytes for the same data, colours that colour-blind readers tell apart, and a dash, a marker and a hatch
beside each colour, so that nothing is lost in grey.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

LOOK: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "lines.markersize": 5,
    "svg.hashsalt": "netkv",
}
DPI = 160
TITLE_SIZE = 12
MOST_IN_LINE = 5
"""Names in a line of a legend."""

FAINT = "#444444"
LETTERS_AN_INCH = 15
TITLE_LETTERS_AN_INCH = 9
"""Letters of the note under a figure, and of its title, on an inch of its width."""

Dash = str | tuple[int, tuple[float, ...]]


class Style(NamedTuple):
    """How a policy is drawn: its name in the legend, its colour, dash and marker of its line, hatch of its bar."""

    label: str
    colour: str
    dash: Dash
    marker: str
    hatch: str


# Okabe and Ito's colour-blind-safe palette (jfly.uni-koeln.de/color) for who is in the paper.
STYLES = {
    "round_robin": Style("Round-robin", "#000000", ":", "x", "...."),
    "ca": Style("CA", "#56B4E9", (0, (6, 2, 1, 2, 1, 2)), "v", "++"),
    "cla": Style("CLA", "#E69F00", "-.", "^", "\\\\\\\\"),
    "cla_star": Style("CLA*", "#009E73", (0, (8, 2)), "s", "\\\\"),
    "netkv_topo_only": Style("NetKV-Topo-Only", "#CC79A7", (0, (1, 1)), "D", "//"),
    "netkv_static": Style("NetKV-Static", "#0072B2", "--", "P", "xx"),
    "netkv_full": Style("NetKV-Full", "#D55E00", "-", "o", ""),
}

# Tol's muted scheme (personal.sron.nl/~pault) for everybody else.
OTHERS = ("#332288", "#88CCEE", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499")
DASHES: tuple[Dash, ...] = ((0, (3, 1, 1, 1)), (0, (5, 1)), (0, (2, 2)), (0, (9, 2, 2, 2)), (0, (4, 1, 1, 1, 1, 1)))
MARKERS = ("<", ">", "p", "h", "*", "d", "1")
HATCHES = ("oo", "--", "||", "**", "O", "+", "-")
PRESETS = (
    "random", "least_loaded", "power_of_two", "vllm_dp", "llmd_default", "llmd_topology", "sglang_cache_aware",
    "dynamo_decode", "dynamo_qos", "aibrix_decode", "conductor",
)  # fmt: skip


def style_of(policy: str) -> Style:
    """A policy's look, the same in every figure; a user's own takes one by its name."""
    if policy in STYLES:
        return STYLES[policy]
    number = PRESETS.index(policy) if policy in PRESETS else zlib.crc32(policy.encode())
    return Style(
        policy,
        OTHERS[number % len(OTHERS)],
        DASHES[number % len(DASHES)],
        MARKERS[number % len(MARKERS)],
        HATCHES[number % len(HATCHES)],
    )


@contextmanager
def paper() -> Iterator[None]:
    """Draw in our style."""
    with plt.rc_context(LOOK):
        yield


def put_title(figure: Figure, title: str, note: str, legend_of: Axes | None = None) -> None:
    """What a figure asks, above it with the legend of one of its axes, and what it was made of, below.

    For figures of constrained layout.
    """
    width_in = figure.get_figwidth()
    title = fill(title, int(TITLE_LETTERS_AN_INCH * width_in))
    handles, labels = legend_of.get_legend_handles_labels() if legend_of is not None else ([], [])
    if handles:
        bold = {"weight": "bold", "size": TITLE_SIZE}
        figure.legend(
            handles, labels, loc="outside upper left", ncols=MOST_IN_LINE, title=title, title_fontproperties=bold,
            alignment="left", borderpad=0.1,
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
