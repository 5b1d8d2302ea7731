"""What a seed stands for: a small run, what differs in it from the default, and everything that breaks in it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from experiments.running import make_spec
from scenario import EMULATED_ONLY, FAULT_KINDS, TELEMETRY_FAULTS, FaultKind
from scheduler import POLICIES
from topologies import Fabric, Roles

Plan = dict[str, Any]
"""Changes to the default specification by dotted name; `faults` holds the list of events."""

EVENTS = "faults"
MOST_EVENTS = 12
REQUEST_S = 0.35
"""Faults begin within as many of these of the first arrival as there are requests, which arrive 3.5 a second or more
slowly: a few begin when all requests are there."""

NETWORKS: tuple[Mapping[str, Any], ...] = (
    {},
    {},
    {"fabric.tor_oversubscription": 4.0, "fabric.aggregation_oversubscription": 1.0},
    {"fabric.pods": 1, "fabric.gpus_per_instance": 8, "congestion.tiers": [1, 2]},
    {"fabric.pods": 3, "fabric.aggregations_per_pod": 3, "fabric.cores_per_group": 1},
)
"""One bring-up serves all emulated runs, so these are drawn for the analytic world alone."""

SETTINGS: Mapping[str, tuple[Any, ...]] = {
    "serving.retry": (True, {"attempts": 3, "timeout_s": 2.0}, {"timeout_s": 1.0}, False),
    "serving.placement": ("segregated", "colocated", "racks"),
    "serving.prefill": ("queue", "at_once"),
    "serving.transfer": ("missing", "full"),
    "serving.stripes": (1, 4, 7),
    "serving.connections": ("persistent", "per_transfer"),
    "serving.batch_slots": (64, 2),
    "serving.kv_memory_tokens": (400_000, 40_000),
    "oracle.refresh_s": (1.0, 0.2, 5.0, "never"),
    "oracle.delay_s": (0.0, 0.7),
    "oracle.loss": (0.0, 0.4),
    "oracle.view": ("path", "tier"),
    "congestion.kind": ("onoff", "none", "constant", "hotspot", "incast", "shuffle"),
    "workload.profile": ("conversation", "chatbot", "rag"),
    "workload.speedup": (1.0, 4.0),
    "workload.max_output_tokens": (32, 4, 200),
}
"""The first value of each is the likelier one."""


def plan_of(seed: int, world: str = "analytic") -> Plan:
    """The plan of a seed; the same whatever came before."""
    drawn = random.Random(f"chaos:{world}:{seed}")
    plan: Plan = {"world": world, "seed": seed, "policy": drawn.choice(sorted(POLICIES))}
    plan |= {"workload.requests": drawn.choice((15, 30, 60)), "workload.max_input_tokens": drawn.choice((8192, 32_768))}
    if world == "analytic":
        plan |= {**drawn.choice(NETWORKS), "simulation.link_sample_s": 1.0}
        plan["simulation.spreading"] = drawn.choice(("hashed", "hashed", "ideal"))
        plan["simulation.network"] = drawn.choice((*("fluid",) * 7, "closed_form"))
    for name, (usual, *others) in SETTINGS.items():
        if drawn.random() < 0.3:
            plan[name] = drawn.choice(others or (usual,))
    if plan.get("simulation.network") == "closed_form":
        plan.pop("serving.retry", None)
    if plan.get("fabric.gpus_per_instance") == 8:  # with four servers in two racks, racks are no place to part roles
        plan.pop("serving.placement", None)
    fabric, roles = make_spec({}, plan).scenario.build()
    kinds = [kind for kind in FAULT_KINDS if world == "emulated" or kind not in EMULATED_ONLY]
    if plan.get("simulation.network") == "closed_form":
        kinds = [kind for kind in kinds if kind in TELEMETRY_FAULTS]
    span_s = REQUEST_S * plan["workload.requests"] / plan.get("workload.speedup", 1.0)
    return plan | {EVENTS: _events(drawn, kinds, span_s, fabric, roles)}


def _events(
    drawn: random.Random, kinds: list[FaultKind], span_s: float, fabric: Fabric, roles: Roles
) -> list[dict[str, Any]]:
    """Faults in order of time: some alone, some that flap, some that hit one target together."""
    found: list[dict[str, Any]] = []
    wanted = drawn.randint(1, MOST_EVENTS)
    while len(found) < wanted:
        kind, at_s = drawn.choice(kinds), drawn.uniform(0, span_s)
        event: dict[str, Any] = {"kind": kind, "target": _target(drawn, kind, fabric, roles)}
        if drawn.random() < 0.85 or kind == "machine_paused":
            event["for_s"] = round(drawn.choice((0.001, 0.05, 0.5, 2.0, 8.0)) * drawn.uniform(0.5, 1.5), 4)
        if kind == "link_degraded":
            event["share"] = drawn.choice((0.01, 0.5, 0.99))
        if kind == "link_lossy":
            event["loss"] = drawn.choice((0.0001, 0.01, 0.3))
        if kind == "telemetry_delayed":
            event["delay_s"] = drawn.choice((0.1, 1.0, 5.0))
        repeats, apart_s = drawn.choice((1, 1, 1, 3)), drawn.choice((0.0, 0.02, 0.3, 1.5))
        found += [{"at_s": round(at_s + again * apart_s, 3), **event} for again in range(repeats)]
    return sorted(found, key=lambda one: float(one["at_s"]))


def _target(drawn: random.Random, kind: FaultKind, fabric: Fabric, roles: Roles) -> str:
    if kind.startswith("link"):
        return drawn.choice(fabric.links).name
    if kind == "switch_down":
        return drawn.choice(fabric.switches).name
    by_role = {"prefill_worker_killed": roles.prefill, "decode_worker_killed": roles.decode}
    if kind in ("worker_hung", "background_surge") or kind in by_role:
        among = list(by_role.get(kind, range(len(fabric.instances))))
        return fabric.instances[drawn.choice(among)].name
    return ""
