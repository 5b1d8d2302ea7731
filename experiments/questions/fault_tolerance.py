"""Which policy degrades most gracefully when links, workers or telemetry fail?

Each policy meets the same faults, drawn from the seed of the run, and is compared with its own run of that seed without
them: how much longer the mean TTFT gets, how many more requests miss their SLO, how many fail. The most graceful is the
one that loses least by such a measure, chosen for each seed on all others; who loses significantly more than it, after
Holm's correction over all policies and faults, is less graceful. An answer `nobody` is possible: it is refuted by one
significant difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
from rich.table import Table

from experiments.analysis import SLO_LOSS, TTFT_LOSS, against_whole
from experiments.drawing import Chart, HeatMap, Quantity, Scale, place_among, style_of
from experiments.questions import fault_tolerance_wording
from experiments.questions.question import Axis, Changes, EmulatedCut, Question, SweepProfile
from experiments.questions.regimes import NETKV, PUBLIC
from experiments.questions.result_tables import Column, Row, listing
from experiments.running import RunSpec
from scheduler import reads_telemetry

TITLE = "Which policy degrades most gracefully when something fails?"
REFERENCE = "round_robin"

NONE = fault_tolerance_wording.NONE
NO_TELEMETRY: Changes = {"faults.events": ({"at_s": 0, "kind": "telemetry_frozen"},)}
"""From the first arrival on the scheduler keeps the snapshot that it has."""

LINKS_DOWN: Changes = {"faults.random.rate": 0.2, "faults.random.kinds": ("link_down",)}
"""Of the 16 cables above a ToR one is down on average: 0.2 a second for 5 s each."""

FAULTS: Mapping[str, Changes] = {
    NONE: {},
    "link_down": LINKS_DOWN,
    "link_stale": {**LINKS_DOWN, **NO_TELEMETRY},
    # Half a decode instance of eight is gone on average.
    "worker_loss": {"faults.random.rate": 0.1, "faults.random.kinds": ("decode_worker_killed",)},
    "telemetry_loss": NO_TELEMETRY,
}
"""What each kind of faults sets. `link_stale` is `link_down` with telemetry that froze before the first link failed, so
that no snapshot tells of it."""


FROZEN = ("link_stale", "telemetry_loss")

SHOWN = {
    "link_down": "links fail",
    "link_stale": "links fail, old snapshot",
    "worker_loss": "workers lost",
    "telemetry_loss": "snapshot freezes",
}


def faults_of(spec: RunSpec) -> str:
    """Which of the `FAULTS` a specification has."""
    frozen, drawn = bool(spec.faults.events), spec.faults.random
    if not drawn.rate:
        return "telemetry_loss" if frozen else NONE
    if "decode_worker_killed" in drawn.kinds:
        return "worker_loss"
    return "link_stale" if frozen else "link_down"


FAULT = Axis(
    label="faults",
    tag="{}",
    read=faults_of,
    settings=lambda name, _: FAULTS[name],
    own=("faults", "faults.random", "faults.events", "faults.random.rate", "faults.random.kinds"),
)

COMMON: Changes = {
    "workload.max_input_tokens": 32_768,
    "congestion.mean_on_s": 2.5,
    "congestion.mean_off_s": 2.5,
    "faults.random.mean_for_s": 5.0,
}

PROFILES = {
    "quick": SweepProfile(
        axes={"faults": tuple(FAULTS)},
        seeds=tuple(range(8)),
        changes={"workload.requests": 75, "workload.max_output_tokens": 64, **COMMON},
        control=True,
        # One fabric, 16 runs of some 30 s and the control run.
        emulated=EmulatedCut(
            axes={"faults": (NONE, "link_stale", "worker_loss", "telemetry_loss")},
            seeds=(0,),
            policies=(REFERENCE, "llmd_topology", "netkv_static", "netkv_full"),
        ),
    ),
    "full": SweepProfile(
        axes={"faults": tuple(FAULTS)},
        seeds=(0, 1, 2, 3, 4),
        changes={"workload.requests": 800, "workload.max_output_tokens": 256, **COMMON},
        control=True,
    ),
}


def _lost(measure: str, unit: str) -> Column:
    """What is lost by a measure, `*` where it is significant after the correction."""

    def show(row: Row) -> str:
        if row["faults"] == NONE or pd.isna(row[f"{measure}_loss_{unit}"]):
            return "-"
        value, low, high = (row[f"{measure}_loss_{name}"] for name in (unit, "low", "high"))
        marked = "*" if row[f"{measure}_loss_p_holm"] < fault_tolerance_wording.SIGNIFICANT else " "
        interval = "" if pd.isna(low) else f" [{low:+.0f}, {high:+.0f}]"
        return f"{value + 0.0:+.1f}{interval}{marked}"

    heading = {"ttft": "TTFT rises %", "slo": "SLO lost, points", "failed": "fail"}[measure]
    return heading, show


COLUMNS: tuple[Column, ...] = (
    ("TTFT", lambda row: f"{row['ttft_ms']:.0f}"),
    _lost("ttft", "percent"),
    ("SLO %", lambda row: f"{100 * row['slo_attainment']:.0f}"),
    _lost("slo", "points"),
    ("fail %", lambda row: f"{100 * (1 - row['completed'] / row['requests']):.1f}"),
)


def table(results: pd.DataFrame) -> Table:
    """A section a kind of faults: what each policy loses by it."""
    several = results["workload"].nunique() > 1
    headings = [
        f"{row['workload']}, {row['faults']}" if several else row["faults"] for row in results.to_dict("records")
    ]
    return listing(
        results.assign(workload=headings),
        "What faults cost each policy",
        COLUMNS,
        " of TTFT; * significant among all policies and faults (Holm); fail %: of all requests",
        compared="rises, lost: against the same run without faults",
        change="ttft_loss",
    )


def charts(results: pd.DataFrame) -> list[Chart]:
    """What faults do to the mean TTFT, and to the requests that are served within their SLO, by policy."""
    found: list[Chart] = []
    for name, measure, unit, of in (
        ("faults", TTFT_LOSS, "%", "Mean TTFT, shorter (+) or longer (-) than without faults"),
        ("faults-slo", SLO_LOSS, "points", "Requests within their SLO, more (+) or fewer (-) than without faults"),
    ):
        prefix = f"{measure.name}_loss"
        rows = results.dropna(subset=[f"{prefix}_{measure.unit}"])
        rows = rows.assign(
            gain=-rows[f"{prefix}_{measure.unit}"], low=-rows[f"{prefix}_high"], high=-rows[f"{prefix}_low"]
        )
        if len(rows):
            value = Quantity("gain", of, unit, 1, low="low", high="high", scale=Scale.CHANGE)
            found.append(_heat_map(name, f"{TITLE} {HEADINGS[measure.name]}", rows, value))
    return found


HEADINGS = {"ttft": "Time to first token", "slo": "Requests served in time"}


def _heat_map(name: str, title: str, rows: pd.DataFrame, value: Quantity) -> HeatMap:
    """Policies down, who loses least over all kinds of faults on top; kinds of faults across."""
    kinds = [kind for kind in FAULTS if kind in set(rows["faults"])]
    policies = list(rows.groupby("policy", sort=False)["gain"].sum().sort_values(kind="stable").index)
    placed = rows.assign(fault_place=rows["faults"].map(kinds.index), policy_place=rows["policy"].map(policies.index))
    across = place_among("fault_place", "What fails", [SHOWN[kind] for kind in kinds])
    down = place_among("policy_place", "Policy", [style_of(policy).label for policy in policies])
    return HeatMap(name=name, title=title, rows=placed, policy="faults", x=across, y=down, value=value, note=NOTE)


NOTE = (
    "Each number compares a policy with its own runs of the same seeds and requests without faults; purple: worse with"
    " them. Old snapshot: from t = 0 on no telemetry arrives. TTFT is of the requests that complete in both."
)


def _across(group: pd.DataFrame, beside: pd.DataFrame) -> Mapping[str, float | str]:
    """What the faults of a row cost. Who reads no telemetry decides with it frozen as without: its p-values would
    count what is judged elsewhere a second time, or what cannot differ, and make all others larger."""
    found = {**against_whole(group, beside, FAULT.label, NONE), **fault_tolerance_wording.stale_cost(group, beside)}
    blind = group["faults"].iloc[0] in FROZEN and not reads_telemetry(str(group["policy"].iloc[0]))
    return found | {name: math.nan for name in found if blind and name.endswith("_p")}


QUESTION = Question(
    name="faults",
    title=TITLE,
    asks="failed links, an old snapshot beside them, lost decode workers, no telemetry",
    axes=(FAULT,),
    policies=(*PUBLIC, *NETKV),
    references=(REFERENCE,),
    profiles=PROFILES,
    across=_across,
    table=table,
    sentences=fault_tolerance_wording.sentences,
    charts=charts,
)
