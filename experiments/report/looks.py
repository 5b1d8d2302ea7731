"""How things are called and coloured on the page: one label and one line style a policy, as in the static figures."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from experiments.figures import style_of
from experiments.questions.words import interval_name
from experiments.spec import RunSpec
from scheduler.policy import TELEMETRY_POLICIES

DASHES = {":": "dot", "-.": "dashdot", "--": "dash", "-": "solid"}
WORLDS = {"emulated": "real packets", "analytic": "fluid model"}
MARKERS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")
KNOWN_ORDER = ("round_robin", "random", "least_loaded", "power_of_two", "ca", "cla", "cla_star", "netkv_topo_only",
               "netkv_static", "netkv_full")  # fmt: skip


@dataclass(frozen=True)
class PolicyLook:
    """A policy as the page shows it: name, label, line."""

    policy: str
    label: str
    colour: str
    dash: str
    marker: str


def looks_of(policies: Iterable[str]) -> dict[str, PolicyLook]:
    """A look for every policy, the baselines first; those of no fixed style share out the colours that are left."""
    ordered = sorted(set(policies), key=lambda name: (_place(name), name))
    found, others = {}, 0
    for place, policy in enumerate(ordered):
        label, colour, dash, *_ = style_of(policy)
        others += label == policy
        dashed = DASHES.get(dash, "2px,2px") if isinstance(dash, str) else "2px,2px"
        found[policy] = PolicyLook(policy, label, colour, dashed, MARKERS[place % len(MARKERS)])
    return found


def _place(policy: str) -> int:
    return KNOWN_ORDER.index(policy) if policy in KNOWN_ORDER else len(KNOWN_ORDER)


def run_label(spec: RunSpec) -> str:
    """What a run is called in a choice of runs: its policy, the age of its view where it has one, and its world."""
    age = f", view every {interval_name(spec.oracle.refresh_s)}" if spec.policy in TELEMETRY_POLICIES else ""
    if age and math.isinf(spec.oracle.refresh_s):
        age = ", view never renewed"
    return f"{style_of(spec.policy)[0]}{age} · {WORLDS[spec.world]}"


def plain(text: Any) -> str:
    """A user's text for Plotly, which reads some HTML in every label: nothing in it is markup."""
    return html.escape(str(text), quote=False)
