"""How sentences, worlds and runs are written on the page."""

from __future__ import annotations

import math
import re
from typing import Any

from markupsafe import Markup, escape

from experiments.analysis import refresh_name
from experiments.drawing import POLICY_STYLES, style_of
from experiments.running import RunSpec
from scheduler import reads_telemetry

WORLDS = {"emulated": "the emulated world", "analytic": "the analytic world"}

CHANGE = re.compile(r"[+−±]\d+(?:\.\d+)?\N{NO-BREAK SPACE}%")

POLICY = re.compile(r"(?<![\w-])(?:" + "|".join(POLICY_STYLES) + r")(?![\w-])")
"""A policy of the paper in a sentence; not the part of a run's name."""

CODE = re.compile(r"`(netkv [^`]+)`")
QUOTED = re.compile(r"`([^`]+)`")


def run_label(spec: RunSpec) -> str:
    """What a run is called in a choice of runs: its policy, its refresh interval if it has one, and its world."""
    age = ""
    if reads_telemetry(spec.policy):
        refresh_s = spec.oracle.refresh_s
        age = ", telemetry " + ("never refreshed" if math.isinf(refresh_s) else f"every {refresh_name(refresh_s)}")
    return f"{style_of(spec.policy).label}{age} · {spec.world}"


def typeset(text: Any) -> str:
    """A sentence as one prints it: policies by their labels, signs, and a space that does not break before a unit."""
    said = POLICY.sub(lambda found: POLICY_STYLES[found[0]].label, str(text))
    said = re.sub(r"(?<=\w)'(?=s\b)", "\N{RIGHT SINGLE QUOTATION MARK}", said.replace("+/-", "±"))
    said = re.sub(r"(?<![\w.\]])-(?=\d)", "−", said)
    return re.sub(r"(?<=\d)\s?%", "\N{NO-BREAK SPACE}%", said)


def prose(text: Any) -> Markup:
    """The same, escaped, with its changes in bold, its commands as code and other words between backticks quoted."""
    said = CHANGE.sub(lambda found: f"<b>{found[0]}</b>", str(escape(typeset(text))))
    return Markup(QUOTED.sub("“\\1”", CODE.sub(r"<code>\1</code>", said)))
