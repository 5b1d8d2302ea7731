"""How things are called and coloured on the page: one label and one line style a policy, as in the static figures."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from experiments.analysis import interval_name
from experiments.drawing import PRESETS, STYLES, style_of
from experiments.questions import reads_telemetry
from experiments.running import RunSpec

WORLDS = {"emulated": "real packets", "analytic": "the fluid model"}

DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}
DASH_PX = 2.0
"""Matplotlib counts dashes in widths of the line, Plotly in pixels: a line is this wide."""

MARKERS = {"o": "circle", "x": "x", "v": "triangle-down", "^": "triangle-up", "s": "square", "D": "diamond",
           "P": "cross", "<": "triangle-left", ">": "triangle-right", "p": "pentagon", "h": "hexagon", "*": "star",
           "d": "diamond-tall", "1": "hourglass"}  # fmt: skip
PATTERNS = {".": ".", "+": "+", "\\": "\\", "/": "/", "x": "x", "-": "-", "|": "|"}

CHANGE = re.compile(r"[+−±]\d+(?:\.\d+)?\N{NO-BREAK SPACE}%")

POLICY = re.compile(r"(?<![\w-])(?:" + "|".join(STYLES) + r")(?![\w-])")
"""A policy of the paper in a sentence; not the part of a run's name."""

CODE = re.compile(r"`(netkv [^`]+)`")
QUOTED = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class PolicyLook:
    """A policy as the page shows it: name, label, line, marker, and the pattern of its bar."""

    policy: str
    label: str
    colour: str
    dash: str
    marker: str
    pattern: str


def looks_of(policies: Iterable[str]) -> dict[str, PolicyLook]:
    """The look of every policy: those of the paper first, in its order, then the public ones, then a user's own."""
    known = [*STYLES, *PRESETS]
    ordered = sorted(set(policies), key=lambda name: (known.index(name) if name in known else len(known), name))
    return {policy: _look(policy) for policy in ordered}


def _look(policy: str) -> PolicyLook:
    style = style_of(policy)
    if isinstance(style.dash, str):
        dash = DASHES[style.dash]
    else:
        dash = ",".join(f"{DASH_PX * length:g}px" for length in style.dash[1])
    pattern = PATTERNS.get(style.hatch[:1], "." if style.hatch else "")
    return PolicyLook(policy, style.label, style.colour, dash, MARKERS.get(style.marker, "circle"), pattern)


def run_label(spec: RunSpec) -> str:
    """What a run is called in a choice of runs: its policy, the age of its view where it has one, and its world."""
    age = ""
    if reads_telemetry(spec.policy):
        refresh_s = spec.oracle.refresh_s
        age = ", view never renewed" if math.isinf(refresh_s) else f", view every {interval_name(refresh_s)}"
    return f"{style_of(spec.policy).label}{age} · {WORLDS[spec.world]}"


def plain(text: Any) -> str:
    """A user's text for Plotly, which reads some HTML in every label: nothing in it is markup."""
    return html.escape(str(text), quote=False)


def typeset(text: Any) -> str:
    """A sentence as one prints it: policies by their labels, signs, and a space that does not break before a unit."""
    said = POLICY.sub(lambda found: STYLES[found[0]].label, str(text))
    said = re.sub(r"(?<=\w)'(?=s\b)", "\N{RIGHT SINGLE QUOTATION MARK}", said.replace("+/-", "±"))
    said = re.sub(r"(?<![\w.\]])-(?=\d)", "−", said)
    return re.sub(r"(?<=\d)\s?%", "\N{NO-BREAK SPACE}%", said)


def prose(text: Any) -> Markup:
    """The same, escaped, with its changes in bold its commands as code and other words between backticks quoted."""
    said = CHANGE.sub(lambda found: f"<b>{found[0]}</b>", str(escape(typeset(text))))
    return Markup(QUOTED.sub("“\\1”", CODE.sub(r"<code>\1</code>", said)))
