"""How policies, tiers, models and verdicts look: label, colour, dash, marker and hatch, once for every renderer.

Colours can be told apart by colour-blind readers, and a dash, a marker and a hatch stand beside each colour, so that
nothing is lost in grey. A style is written in Matplotlib's notation; Plotly's is derived from it here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

INK, FAINT, GRID = "#1b2733", "#444444", "#dddddd"
"""Of text and lines, of notes, and of grids."""

BAND_OPACITY = 0.15
BAR_OPACITY = 0.8

DIVERGING = ("#542788", "#998ec3", "#f7f7f7", "#f1a340", "#b35806")
"""ColorBrewer's PuOr (colorbrewer2.org), colour-blind-safe: from purple, a loss, through white to orange, a gain."""

WHITE_TEXT_FROM = 0.6
"""Numbers on a colour farther than this part from the middle of `DIVERGING` to its end are white."""

Dash = str | tuple[int, tuple[float, ...]]

PLOTLY_DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}
LINE_PX = 2.4
"""Width of a line in Plotly. Matplotlib counts dashes in widths of the line, Plotly in pixels."""

PLOTLY_MARKERS = {"o": "circle", "x": "x", "v": "triangle-down", "^": "triangle-up", "s": "square", "D": "diamond",
                  "P": "cross", "<": "triangle-left", ">": "triangle-right", "p": "pentagon", "h": "hexagon",
                  "*": "star", "d": "diamond-tall", "1": "hourglass"}  # fmt: skip
PLOTLY_PATTERNS = (".", "+", "\\", "/", "x", "-", "|")


@dataclass(frozen=True)
class Style:
    """How one of several is drawn: its name in the legend, colour, dash and marker of its line, hatch of its bar."""

    label: str
    colour: str
    dash: Dash = "-"
    marker: str = "o"
    hatch: str = ""

    @property
    def plotly_dash(self) -> str:
        if isinstance(self.dash, str):
            return PLOTLY_DASHES[self.dash]
        return ",".join(f"{LINE_PX * length:g}px" for length in self.dash[1])

    @property
    def plotly_marker(self) -> str:
        return PLOTLY_MARKERS[self.marker]

    @property
    def plotly_pattern(self) -> str:
        """The first sign of the hatch; a dot for one that Plotly lacks."""
        sign = self.hatch[:1]
        return sign if sign in PLOTLY_PATTERNS else "." if sign else ""

    def faded(self, opacity: float) -> str:
        """Its colour as CSS `rgba(...)`."""
        red, green, blue = (int(self.colour[at : at + 2], 16) for at in (1, 3, 5))
        return f"rgba({red},{green},{blue},{opacity})"


# Okabe and Ito's colour-blind-safe palette (jfly.uni-koeln.de/color) for the policies of the paper, tiers and models.
POLICY_STYLES = {
    "round_robin": Style("Round-robin", "#000000", ":", "x", "...."),
    "ca": Style("CA", "#56B4E9", (0, (6, 2, 1, 2, 1, 2)), "v", "++"),
    "cla": Style("CLA", "#E69F00", "-.", "^", "\\\\\\\\"),
    "cla_star": Style("CLA*", "#009E73", (0, (8, 2)), "s", "\\\\"),
    "netkv_topo_only": Style("NetKV-Topo-Only", "#CC79A7", (0, (1, 1)), "D", "//"),
    "netkv_static": Style("NetKV-Static", "#0072B2", "--", "P", "xx"),
    "netkv_full": Style("NetKV-Full", "#D55E00", "-", "o", ""),
    "netkv_fresh": Style("NetKV-Fresh", "#882255", (0, (6, 1, 1, 1)), "*", "**"),
    "paper_static": Style("Static (paper)", "#0072B2", (0, (4, 2)), "d", "x"),
    "paper_self_contention": Style("Self-contention (paper)", "#999999", (0, (4, 2, 1, 2)), "p", "o"),
    "paper_full": Style("Full (paper)", "#D55E00", (0, (4, 1)), "h", "."),
}

TIER_STYLES = (
    Style("same server", "#009E73", marker="v"),
    Style("same rack", "#0072B2", marker="o"),
    Style("same pod", "#E69F00", marker="s"),
    Style("across pods", "#D55E00", marker="^"),
)
"""By tier, 0 to 3."""

MODEL_STYLES = {
    "closed_form": Style("Closed form", "#999999", ":"),
    "fluid_ideal": Style("Fluid, ideal spreading", "#56B4E9", "-."),
    "fluid_paths": Style("Fluid, paths taken", "#0072B2", "--"),
    "fluid_frames": Style("Fluid, paths and headers", "#D55E00", "-"),
    "fluid_latency": Style("Fluid, with the emulation's latency", "#009E73", "-"),
}
"""Of the models of `netkv compare`, from the roughest to the nearest."""

VERDICT_STYLES = {
    "valid": Style("valid", "#009E73", marker="o"),
    "suspect": Style("suspect", "#E69F00", marker="D"),
    "invalid": Style("invalid", "#D55E00", marker="x"),
}

NODE_COLOURS = {"prefill": "#E69F00", "decode": "#0072B2", "switch": "#444444"}
"""Of the nodes of a fabric."""

# Tol's muted scheme (personal.sron.nl/~pault) for all other policies.
OTHERS = ("#332288", "#88CCEE", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499")
DASHES: tuple[Dash, ...] = ((0, (3, 1, 1, 1)), (0, (5, 1)), (0, (2, 2)), (0, (9, 2, 2, 2)), (0, (4, 1, 1, 1, 1, 1)))
MARKERS = ("<", ">", "p", "h", "*", "d", "1")
HATCHES = ("oo", "--", "||", "**", "O", "+", "-")
PUBLIC_ROUTERS = (
    "random", "least_loaded", "power_of_two", "vllm_dp", "llmd_default", "llmd_topology", "sglang_cache_aware",
    "dynamo_decode", "dynamo_qos", "aibrix_decode", "conductor", "dynamo_router", "dynamo_router_topology",
    "dynamo_router_netkv",
)  # fmt: skip


def style_of(policy: str) -> Style:
    """A policy's style, the same in every figure; that of a user's own policy follows from its name."""
    if policy in POLICY_STYLES:
        return POLICY_STYLES[policy]
    number = PUBLIC_ROUTERS.index(policy) if policy in PUBLIC_ROUTERS else zlib.crc32(policy.encode())
    return Style(
        policy,
        OTHERS[number % len(OTHERS)],
        DASHES[number % len(DASHES)],
        MARKERS[number % len(MARKERS)],
        HATCHES[number % len(HATCHES)],
    )


def in_order(policies: Iterable[str]) -> list[str]:
    """Each policy once: those of the paper first, in its order, then the public routers, then a user's own by name."""
    known = [*POLICY_STYLES, *PUBLIC_ROUTERS]
    return sorted(set(policies), key=lambda name: (known.index(name) if name in known else len(known), name))
