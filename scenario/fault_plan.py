"""The plan of a run's faults, and what is broken at each moment of it. Pure: both worlds carry out the same plan."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from scenario.background_load import BackgroundFlow
from scenario.faults import NETWORK_FAULTS, ONLY_TARGET, FaultEvent, FaultKind, FaultsSpec, RandomFaults
from topologies import Fabric, FabricError, Level, Roles, did_you_mean

DETECTION_S = 0.05
"""From a failed or restored link to new routes, seconds: what the controller waits for further reports
(`controller.forwarding.REPLAN_DELAY_S`). The analytic world takes it for the whole detection."""

MOST_RANDOM = 100_000
"""More random faults than this in one run are a wrong unit."""

SURGE_CONNECTIONS = 16
"""Greedy connections of a surge, each from another instance where there are as many."""

Role = Literal["prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a plan, by its place in it. `until_s` is infinite where it lasts to the end of the run.

    at_s, until_s: seconds from t = 0. share, delay_s, loss: of the kinds that have them.
    """

    number: int
    at_s: float
    until_s: float
    kind: FaultKind
    target: str
    share: float = 0.5
    delay_s: float = 1.0
    loss: float = 0.01


class FaultEdge(NamedTuple):
    """A fault begins or ends."""

    at_s: float
    begins: bool
    fault: Fault


@dataclass(frozen=True)
class FaultState:
    """What is broken at one moment.

    cut: links that carry nothing. shares: by link, the part of its rate that is left. losses: by link, the part of its
    frames that is lost. frozen: no telemetry reaches the scheduler. corrupted: what reaches it is damaged.
    extra_delay_s: what telemetry is delayed by. dead: workers without a process. hung: instances whose process is
    stopped.
    """

    cut: frozenset[int] = frozenset()
    shares: Mapping[int, float] = field(default_factory=dict)
    losses: Mapping[int, float] = field(default_factory=dict)
    frozen: bool = False
    corrupted: bool = False
    extra_delay_s: float = 0.0
    controller_dead: bool = False
    dead: frozenset[tuple[Role, int]] = frozenset()
    hung: frozenset[int] = frozenset()


def plan_faults(
    spec: FaultsSpec, fabric: Fabric, roles: Roles, to_s: float, rng: np.random.Generator
) -> tuple[Fault, ...]:
    """Every fault of a run in order of time; random ones begin before `to_s`, seconds from t = 0.

    FabricError, which names the field and the remedy, when a target is not one of its kind.
    """
    check_targets(spec, fabric, roles)
    found: list[tuple[float, float, FaultKind, str, FaultEvent | RandomFaults]] = [
        (event.at_s, math.inf if event.for_s is None else event.at_s + event.for_s, event.kind, event.target, event)
        for event in spec.events
    ]
    drawn = spec.random
    if drawn.rate * to_s > MOST_RANDOM:
        raise FabricError(f"faults.random.rate: {drawn.rate:g} a second over {to_s:g} s are more than {MOST_RANDOM}")
    at_s = rng.exponential(1 / drawn.rate) if drawn.rate else math.inf
    while at_s < to_s:
        kind = drawn.kinds[rng.integers(len(drawn.kinds))]
        among = _avoidable(fabric, kind) or _targets(fabric, roles, kind)
        target = among[rng.integers(len(among))]
        found.append((at_s, at_s + float(rng.exponential(drawn.mean_for_s)), kind, target, drawn))
        at_s += float(rng.exponential(1 / drawn.rate))
    found.sort(key=lambda one: one[0])
    return tuple(
        Fault(number, float(begins_s), float(ends_s), kind, target, settings.share, settings.delay_s, settings.loss)
        for number, (begins_s, ends_s, kind, target, settings) in enumerate(found)
    )


def check_targets(spec: FaultsSpec, fabric: Fabric, roles: Roles) -> None:
    """FabricError unless every event names something that its kind can hit."""
    for number, event in enumerate(spec.events):
        known = _targets(fabric, roles, event.kind)
        if event.target not in known:
            what = repr(event.target) if event.target else "nothing"
            meant = did_you_mean(event.target, known)
            choice = meant or f" ({', '.join(known[:3])}{' and so on' if known[3:] else ''})"
            raise FabricError(f"faults.events.{number}.target: {event.kind} cannot hit {what}{choice}")


def fault_edges(plan: Iterable[Fault]) -> tuple[FaultEdge, ...]:
    """When faults begin and end, in order; of one instant, ends come first."""
    edges = [FaultEdge(fault.at_s, True, fault) for fault in plan]
    edges += [FaultEdge(fault.until_s, False, fault) for fault in plan if math.isfinite(fault.until_s)]
    return tuple(sorted(edges, key=lambda edge: (edge.at_s, edge.begins, edge.fault.number)))


def state_of(active: Collection[Fault], fabric: Fabric) -> FaultState:
    """What is broken while these faults last. Faults of one target add up: a link is as slow as the worst makes it."""
    cut: set[int] = set()
    shares: dict[int, float] = {}
    losses: dict[int, float] = {}
    for fault in active:
        links = links_of(fault, fabric)
        if fault.kind == "link_degraded":
            shares |= {link: min(fault.share, shares.get(link, 1.0)) for link in links}
        elif fault.kind == "link_lossy":
            losses |= {link: max(fault.loss, losses.get(link, 0.0)) for link in links}
        else:
            cut |= links
    kinds = {fault.kind for fault in active}
    return FaultState(
        cut=frozenset(cut),
        shares=shares,
        losses=losses,
        frozen="telemetry_frozen" in kinds,
        corrupted="telemetry_corrupted" in kinds,
        extra_delay_s=max((fault.delay_s for fault in active if fault.kind == "telemetry_delayed"), default=0.0),
        controller_dead="controller_killed" in kinds,
        dead=frozenset(worker for fault in active if (worker := worker_of(fault)) is not None),
        hung=frozenset(instance_of(fault) for fault in active if fault.kind == "worker_hung"),
    )


def links_of(fault: Fault, fabric: Fabric) -> frozenset[int]:
    """The links that a fault of the network hits, both directions of each cable; none for other kinds."""
    if fault.kind not in NETWORK_FAULTS:
        return frozenset()
    hit = fabric.links_from[fault.target] if fault.kind == "switch_down" else (fabric.link_by_name[fault.target],)
    both = ((link.index, fabric.link_index[link.target, link.source]) for link in hit)
    return frozenset(index for pair in both for index in pair)


def surges_of(
    plan: Iterable[Fault], fabric: Fabric, first_id: int, from_s: float, to_s: float
) -> tuple[BackgroundFlow, ...]:
    """The background flows of all surges of a plan, numbered from `first_id`; none lasts beyond `to_s`.

    They come from all other racks in turn, beginning with another one for each fault.
    """
    flows: list[BackgroundFlow] = []
    for fault in plan:
        if fault.kind == "background_surge" and fault.at_s < to_s:
            target = instance_of(fault)
            far = [one.index for one in fabric.instances if fabric.tier(one.index, target) >= 2]
            far = far or [one.index for one in fabric.instances if fabric.tier(one.index, target) == 1]
            for turn in range(SURGE_CONNECTIONS if far else 0):
                source = far[(fault.number + turn * max(len(far) // SURGE_CONNECTIONS, 1)) % len(far)]
                number, until_s = first_id + len(flows), min(fault.until_s, to_s)
                flows.append(BackgroundFlow(number, max(fault.at_s, from_s), until_s, source, target))
    return tuple(flows)


def worker_of(fault: Fault) -> tuple[Role, int] | None:
    """The worker that a fault kills; None for other kinds."""
    if fault.kind == "prefill_worker_killed":
        return "prefill", instance_of(fault)
    return ("decode", instance_of(fault)) if fault.kind == "decode_worker_killed" else None


def instance_of(fault: Fault) -> int:
    """The index of the instance that a fault of a worker hits."""
    return int(fault.target[1:])


def _targets(fabric: Fabric, roles: Roles, kind: FaultKind) -> list[str]:
    """The names of all that a kind can hit."""
    if kind in ONLY_TARGET:
        return [ONLY_TARGET[kind]]
    if kind in NETWORK_FAULTS and kind != "switch_down":
        return [link.name for link in fabric.links]
    if kind == "switch_down":
        return [switch.name for switch in fabric.switches]
    instances = {"prefill_worker_killed": roles.prefill, "decode_worker_killed": roles.decode}
    return [fabric.instances[index].name for index in instances.get(kind, range(len(fabric.instances)))]


def _avoidable(fabric: Fabric, kind: FaultKind) -> list[str]:
    """The cables or switches that equal-cost paths can avoid; empty for kinds that hit neither."""
    level = {switch.name: switch.level for switch in fabric.switches}
    if kind == "switch_down":
        return [name for name, at in level.items() if at >= Level.AGGREGATION]
    if kind in NETWORK_FAULTS:
        return [
            link.name for link in fabric.links if Level.TOR <= level.get(link.source, -1) < level.get(link.target, -1)
        ]
    return []
