"""Where does network awareness lose?

Each case is the same requests in a set-up that telemetry, or topology, should find hard: traffic that moves faster than
a snapshot, one that is noisy, lost, slow or older than a failure, a tenant that nobody knows of. What telemetry adds
is the change against NetKV-Static, which knows the topology and reads none; what topology adds is that against the best
public policy that knows neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from typing import Any

import pandas as pd
from rich.table import Table

from experiments.analysis import CAVEAT, Interval, against_best, challengers, paired_change
from experiments.drawing import Chart, HeatMap, Quantity, gain_over, in_order, place_among, style_of
from experiments.questions.fault_tolerance import FAULTS, LINKS_DOWN
from experiments.questions.place_wording import by_place
from experiments.questions.question import Axis, Changes, EmulatedCut, Question, SweepProfile
from experiments.questions.regimes import REGIMES
from experiments.questions.result_tables import Column, Row, listing
from experiments.running import RunSpec
from scheduler import reads_telemetry

TITLE = "Where does network awareness lose?"
REFERENCE = "netkv_static"
BLIND = ("round_robin", "least_loaded", "llmd_default")
"""Public policies that know neither topology nor telemetry; the best of them is the reference of topology's worth."""

TOPOLOGY = ("llmd_topology", "dynamo_qos")
"""Public policies that know the topology and read no telemetry."""

EASY = "easy"
CASES: Mapping[str, Changes] = {
    EASY: {},
    # One decode instance at a time, drawn anew every period, is sent to by every instance outside its server.
    "incast": {
        "congestion.kind": "incast",
        "congestion.flows": 14,
        "congestion.hot_spots": 1,
        "congestion.period_s": 2.5,
    },
    "moving_rack": REGIMES["moving_rack"],
    "link_unseen": FAULTS["link_stale"],
    # Two thirds of the readings within a factor of e of the truth.
    "noisy": {"oracle.noise": 1.0},
    "lost": {"oracle.loss": 0.8},
    # What `counterpoll show` of SONiC has as defaults: counters of ports every second, of queues every ten
    # (github.com/sonic-net/sonic-utilities, counterpoll/main.py).
    "sonic_ports": {"oracle.poll_s": 1.0},
    "sonic_queues": {"oracle.poll_s": 10.0},
    # Another scheduler's KV transfers instead of a hot spot: eight prefill instances, each sending for 0.2 s every
    # 2.35 s on average, which is our own 3.4 requests/s and about a transfer of ours; it draws among all decode
    # instances, because it does not know us.
    "two_tenants": {
        "congestion.flows": 1,
        "congestion.hot_spots": 8,
        "congestion.mean_on_s": 0.2,
        "congestion.mean_off_s": 2.15,
    },
}
"""What each case changes. All have the same requests."""

OF_TELEMETRY = ("noisy", "lost", "sonic_ports", "sonic_queues")
"""Cases in which only the telemetry is another than in the easy one."""

TELLING: Mapping[str, Changes] = {name: CASES[name] for name in CASES if name != EASY} | {"link_unseen": LINKS_DOWN}
"""By what a specification shows that it is of a case."""

SHOWN = {
    EASY: "hot spot of 2.5 s",
    "incast": "incast, one target",
    "moving_rack": "moving rack",
    "link_unseen": "failed links unseen",
    "noisy": "noisy snapshot",
    "lost": "4 of 5 lost",
    "sonic_ports": "polls of 1 s",
    "sonic_queues": "polls of 10 s",
    "two_tenants": "second tenant",
}


def case_of(spec: RunSpec) -> str:
    """The case of a specification."""

    def value(field: str) -> Any:
        return reduce(getattr, field.split("."), spec)

    return next((name for name, sets in TELLING.items() if all(value(at) == given for at, given in sets.items())), EASY)


ON_OFF: Changes = {"congestion.mean_on_s": 2.5, "congestion.mean_off_s": 2.5}
"""The hot spot that every case has which names no other traffic."""

CASE = Axis(
    label="case",
    tag="{}",
    read=case_of,
    settings=lambda name, _: {**ON_OFF, **CASES[name]},
    own=(*dict.fromkeys(field for changes in CASES.values() for field in changes), "faults", "faults.random"),
)

COMMON: Changes = {
    "workload.max_input_tokens": 32_768,
    "workload.max_output_tokens": 256,
    "faults.random.mean_for_s": 5.0,
}

PROFILES = {
    "quick": SweepProfile(
        axes={"case": tuple(CASES)},
        seeds=tuple(range(8)),
        changes={"workload.requests": 75, **COMMON},
        # One fabric, 16 runs of some 30 s.
        emulated=EmulatedCut(
            axes={"case": (EASY, "incast", "link_unseen", "two_tenants")},
            seeds=(0,),
            policies=("round_robin", "llmd_topology", REFERENCE, "netkv_full"),
        ),
    ),
    "full": SweepProfile(
        axes={"case": tuple(CASES)},
        seeds=tuple(range(8)),
        changes={"workload.requests": 400, **COMMON},
        emulated=EmulatedCut(seeds=(0, 1, 2, 3, 4)),
    ),
}


def _change(prefix: str) -> Column:
    heading = {"telemetry_change": "Static %", "public_change": "blind %"}[prefix]

    def show(row: Row) -> str:
        change = Interval.of_row(row, prefix)
        return "-" if pd.isna(change.value) else f"{change.value:+.1f} [{change.low:+.0f}, {change.high:+.0f}]"

    return heading, show


COLUMNS: tuple[Column, ...] = (
    ("TTFT", lambda row: f"{row['ttft_ms']:.0f}"),
    ("KV", lambda row: f"{row['kv_transfer_ms']:.0f}"),
    _change("telemetry_change"),
    _change("public_change"),
)


def table(results: pd.DataFrame) -> Table:
    """A section a case: who reads telemetry against NetKV-Static, and all against the best blind policy."""
    several = results["workload"].nunique() > 1
    headings = [f"{row['workload']}, {row['case']}" if several else row["case"] for row in results.to_dict("records")]
    note = "; blind: the best public policy without topology or telemetry, for each seed the best on all others"
    compared = f"Static: mean TTFT against {REFERENCE} of who reads telemetry"
    shown = results.assign(workload=headings)
    return listing(shown, TITLE, COLUMNS, note, compared=compared, change="telemetry_change")


def sentences(results: pd.DataFrame) -> list[str]:
    """Where each policy gains, loses or neither, by what topology and by what telemetry adds."""
    said = []
    for (world, workload), here in results.groupby(["world", "workload"], sort=False):
        where = f"{workload} in the {world} world"
        for policy in challengers(here, BLIND):
            rows = here[here["policy"] == policy]
            for prefix, name in (
                ("telemetry_change", REFERENCE),
                ("public_change", "the best public policy that knows neither topology nor telemetry"),
            ):
                known = rows.dropna(subset=[f"{prefix}_percent", f"{prefix}_p_holm"])
                if len(known):
                    judged = by_place(known, prefix, CASE.label, "cases")
                    said.append(f"{policy} on {where}: mean TTFT against {name}, {judged}.")
    return [*said, CAVEAT] if said else []


def charts(results: pd.DataFrame) -> list[Chart]:
    """What telemetry saves over NetKV-Static, and what every policy saves over the best blind one, by case."""
    cases = [name for name in CASES if name in set(results["case"])]
    across = place_among("case_place", "Case", [SHOWN[name] for name in cases])
    found: list[Chart] = []
    for name, title, prefix, over in (
        ("hard_cases", "What telemetry adds to knowing the topology", "telemetry_change", style_of(REFERENCE).label),
        ("hard_cases-topology", "What knowing the network adds", "public_change", "the best policy that does not"),
    ):
        rows = results.dropna(subset=[f"{prefix}_percent"])
        if rows.empty:
            continue
        policies = list(reversed(in_order(rows["policy"])))
        placed = rows.assign(
            case_place=rows["case"].map(cases.index),
            policy_place=rows["policy"].map(policies.index),
            gain_percent=-rows[f"{prefix}_percent"],
            gain_low=-rows[f"{prefix}_high"],
            gain_high=-rows[f"{prefix}_low"],
        )
        down = place_among("policy_place", "Policy", [style_of(policy).label for policy in policies])
        found.append(_heat_map(name, f"{TITLE} {title}", placed, across, down, gain_over(over)))
    return found


def _heat_map(name: str, title: str, rows: pd.DataFrame, x: Quantity, y: Quantity, value: Quantity) -> HeatMap:
    return HeatMap(name=name, title=title, rows=rows, policy="netkv", x=x, y=y, value=value)


def _further(group: pd.DataFrame, beside: pd.DataFrame) -> Mapping[str, float | str]:
    """What the best blind policy and NetKV-Static are to a row. `telemetry_change` is of policies that read telemetry.

    Who reads none decides in the cases of telemetry as in the easy one: a p-value there would count the same runs once
    more, and make all others larger.
    """
    policy = str(group["policy"].iloc[0])
    informed = reads_telemetry(policy)
    static = beside[beside["policy"] == REFERENCE]
    change = paired_change(static, group if informed else group.iloc[:0], "ttft_ms")
    found = {
        **against_best(group, beside, BLIND),
        "telemetry_change_percent": change.percent,
        "telemetry_change_low": change.low,
        "telemetry_change_high": change.high,
        "telemetry_change_detectable": change.detectable,
        "telemetry_change_p": change.p,
    }
    repeated = not informed and group[CASE.label].iloc[0] in OF_TELEMETRY
    return found | ({"public_change_p": math.nan} if repeated else {})


QUESTION = Question(
    name="hard_cases",
    title=TITLE,
    asks="incast, a moving rack, failed links unseen, noisy, lost and slow telemetry, a second tenant",
    axes=(CASE,),
    policies=(*BLIND, *TOPOLOGY, REFERENCE, "netkv_full", "netkv_fresh"),
    references=(REFERENCE,),
    profiles=PROFILES,
    further=_further,
    table=table,
    sentences=sentences,
    charts=charts,
)
