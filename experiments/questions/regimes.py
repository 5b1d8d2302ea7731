"""Does NetKV's gain last where something else than the way through the fabric decides?

In the default set-up decode never binds and prefix caches are cold, so who knows the topology wins. Each regime here
changes one of these: decode slots or decode memory bind, caches are warm, prefill and decode stand in different racks,
background traffic has another shape. NetKV is compared with CLA* and with the best public policy of each regime.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.table import Table

from experiments.analysis import (
    CAVEAT,
    Interval,
    against_best,
    challengers,
    gains,
    seeds_name,
    what_binds,
)
from experiments.drawing import Chart, HeatMap, gain_over, in_order, place_among, style_of
from experiments.questions.place_wording import best_public, by_place
from experiments.questions.question import Axis, Changes, EmulatedCut, Question, SweepProfile
from experiments.questions.result_tables import Column, Row, listing
from experiments.running import RunSpec

TITLE = "Does NetKV keep its gain where something else than topology binds?"
REFERENCE = "cla_star"
NETKV = ("netkv_static", "netkv_full", "netkv_fresh")

PUBLIC = (
    *("round_robin", "random", "least_loaded", "vllm_dp", "power_of_two", "cla", "llmd_default", "llmd_topology"),
    *("sglang_cache_aware", "dynamo_decode", "dynamo_qos", "aibrix_decode", "conductor"),
)
"""Policies that others published (docs/reference/policies.md names their sources): the best of those that were run
is the second reference."""

SHOWN_PUBLIC = (
    "round_robin",
    "least_loaded",
    "vllm_dp",
    "llmd_default",
    "llmd_topology",
    "dynamo_decode",
    "dynamo_qos",
)
"""Those that are run unless others are named: of all that turn no request away, one of these has the least mean TTFT of
every regime on the leaderboard (docs/reference/leaderboard.md)."""

BASELINE = "baseline"
REGIMES: Mapping[str, Changes] = {
    BASELINE: {},
    # Answers of up to 256 tokens keep 2.6 requests in each of eight batches on average.
    "decode_slots": {"serving.batch_slots": 3},
    # The longest prompt and its answer just fit; two long prompts do not.
    "decode_memory": {"serving.kv_memory_tokens": 40_000},
    # A cache of 2 M tokens is 655 GB, the host's memory; the default's 100 k tokens are GPU memory and hold 12 prompts.
    "warm_caches": {"workload.warm_requests": 2000, "serving.prefix_cache_tokens": 2_000_000},
    "racks_apart": {"serving.placement": "racks"},
    "hot_spots": {"congestion.hot_spots": 4},
    "incast": {
        "congestion.kind": "incast",
        "congestion.flows": 14,
        "congestion.hot_spots": 2,
        "congestion.period_s": 2.5,
    },
    "shuffle": {"congestion.kind": "shuffle"},
    "moving_rack": {"congestion.kind": "hotspot", "congestion.period_s": 2.5},
}
"""What each regime changes. All have the same requests."""


def regime_of(spec: RunSpec) -> str:
    """The regime of a specification: the one all of whose changes it has."""

    def value(field: str) -> Any:
        section, name = field.split(".")
        return getattr(getattr(spec, section), name)

    others = [name for name in REGIMES if name != BASELINE]
    found = (name for name in others if all(value(field) == given for field, given in REGIMES[name].items()))
    return next(found, BASELINE)


REGIME = Axis(
    label="regime",
    tag="{}",
    read=regime_of,
    settings=lambda name, _: REGIMES[name],
    own=tuple(dict.fromkeys(field for changes in REGIMES.values() for field in changes)),
)

COMMON: Changes = {
    # The requests before the first one are there for the regime that warms caches with them.
    "workload.first_request": 2000,
    "workload.max_input_tokens": 32_768,
    "workload.max_output_tokens": 256,
    "congestion.mean_on_s": 2.5,
    "congestion.mean_off_s": 2.5,
}

PROFILES = {
    "quick": SweepProfile(
        axes={"regime": tuple(REGIMES)},
        seeds=tuple(range(16)),
        changes={"workload.requests": 75, **COMMON},
        # One fabric, 18 runs of some 30 s, without two policies that lead neither regime.
        emulated=EmulatedCut(
            axes={"regime": ("decode_slots", "moving_rack")},
            seeds=(0,),
            policies=tuple(
                name for name in (*SHOWN_PUBLIC, REFERENCE, *NETKV) if name not in ("llmd_default", "dynamo_decode")
            ),
        ),
    ),
    "full": SweepProfile(
        axes={"regime": tuple(REGIMES)},
        seeds=(0, 1, 2, 3, 4),
        changes={"workload.requests": 400, **COMMON},
    ),
}


def _against_public(row: Row) -> str:
    change = Interval.of_row(row, "public_change")
    return "-" if math.isnan(change.value) else f"{change.value:+.1f} [{change.low:+.0f}, {change.high:+.0f}]"


def _against_reference(row: Row) -> str:
    change = Interval.of_row(row, "ttft_change")
    if row["policy"] == row["reference"] or math.isnan(change.value):
        return "-"
    return f"{change.value:+.1f} [{change.low:+.0f}, {change.high:+.0f}]"


COLUMNS: tuple[Column, ...] = (
    ("TTFT", lambda row: f"{row['ttft_ms']:.0f}"),
    ("CLA* %", _against_reference),
    ("public %", _against_public),
    ("waits %", lambda row: f"{row['waiting_percent']:.0f}"),
    ("cached %", lambda row: f"{row['cached_percent']:.0f}"),
)


def table(results: pd.DataFrame) -> Table:
    """A section a regime: CLA*, the best public policy there, and all that are compared with them."""
    shown = results[~results["policy"].isin(PUBLIC) | (results["policy"] == results["public"])]
    several = results["workload"].nunique() > 1
    headings = [f"{row['workload']}, {row['regime']}" if several else row["regime"] for row in shown.to_dict("records")]
    note = (
        "; public %: the same against the best public policy, for each seed the best on all others; waits: for decode"
        " longer than a step; cached: of all prompt tokens"
    )
    return listing(shown.assign(workload=headings), "Mean TTFT by regime", COLUMNS, note)


def sentences(results: pd.DataFrame) -> list[str]:
    """Where the gain over each reference is significant, corrected for all regimes and policies; and what binds."""
    said = []
    for (world, workload), here in results.groupby(["world", "workload"], sort=False):
        where = f"{workload} in the {world} world"
        for policy in challengers(here, (REFERENCE, *PUBLIC)):
            rows = here[here["policy"] == policy]
            for prefix, name in (
                ("ttft_change", REFERENCE),
                ("public_change", best_public(rows, "regime")),
            ):
                known = rows.dropna(subset=[f"{prefix}_percent"])
                if len(known):
                    on = "on" if prefix == "public_change" else ""
                    judged = by_place(known, prefix, REGIME.label, "regimes", on)
                    said.append(f"{policy} on {where}: mean TTFT against {name}, {judged}.")
        said.append(f"decode on {where}: {_bound(here)}.")
    return [*said, CAVEAT] if said else []


def _bound(rows: pd.DataFrame) -> str:
    """How many requests waited for decode, over all policies, and the number of seeds."""
    waiting = rows.groupby("regime", sort=False)["waiting_percent"].agg(["min", "max"])
    at = ", ".join(f"{low:.0f} to {high:.0f} % in {regime}" for regime, (low, high) in waiting.iterrows())
    return (
        f"longer than one step of its own for the decode instance waited, by policy, {at} of the requests"
        f" ({seeds_name(int(rows['seeds'].max()))})"
    )


def charts(results: pd.DataFrame) -> list[Chart]:
    """What every policy saves over CLA*, and what each saves over the best public policy, by regime."""
    regimes = [name for name in REGIMES if name in set(results["regime"])]
    policies = [name for name in reversed(in_order(results["policy"])) if name != REFERENCE]
    across = place_among("regime_place", "Regime", [name.replace("_", " ") for name in regimes])
    down = place_among("policy_place", "Policy", [style_of(name).label for name in policies])
    placed = results[results["policy"] != REFERENCE].assign(
        regime_place=lambda rows: rows["regime"].map(regimes.index),
        policy_place=lambda rows: rows["policy"].map(policies.index),
    )
    over_public = placed.assign(
        gain_percent=-placed["public_change_percent"],
        gain_low=-placed["public_change_high"],
        gain_high=-placed["public_change_low"],
    ).dropna(subset=["gain_percent"])
    over_reference = pd.concat([gains(placed, name) for name in policies])
    found: list[Chart] = [
        HeatMap(name=name, title=title, rows=rows, policy="netkv", x=across, y=down, value=gain_over(over))
        for name, title, rows, over in (
            ("regimes", f"{TITLE} Against CLA*", over_reference, style_of(REFERENCE).label),
            ("regimes-public", f"{TITLE} Against the best public policy", over_public, "the best public policy"),
        )
        if len(rows)
    ]
    return found


QUESTION = Question(
    name="regimes",
    title=TITLE,
    asks="decode slots, decode memory, warm caches, racks apart and four shapes of traffic",
    axes=(REGIME,),
    policies=(*SHOWN_PUBLIC, REFERENCE, *NETKV),
    references=(REFERENCE,),
    profiles=PROFILES,
    further=lambda group, beside: {
        **against_best(group, beside, PUBLIC, exempt=(REFERENCE,)),
        **what_binds(group),
    },
    table=table,
    sentences=sentences,
    charts=charts,
)
