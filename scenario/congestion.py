"""Background traffic: which flows load the fabric, and when. A pure plan from the seed, replayed by either world."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from scenario.background_load import BackgroundFlow, capacities_bps, link_tiers, path_shares
from topologies import Fabric, Instance, Roles
from workloads import WorkloadError

PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Spell = Annotated[float, Field(ge=0.01, allow_inf_nan=False)]
"""Mean of a spell of traffic or silence, seconds: a plan of shorter ones would be longer than any run of it."""

BACKGROUND_TAIL_S = 60.0
"""The plan of background traffic goes on this long beyond the last arrival, real seconds."""

OWN_UTILISATION = {"constant": 0.5, "hotspot": 0.8, "shuffle": 0.5}
"""What a kind loads its busiest link to unless it is told; the kinds that are not here are greedy. Our choice."""

Pair = tuple[int, int]


class CongestionSpec(BaseModel):
    """The kind of background congestion and its time scale, in real seconds and real bit/s.

    `none`; `constant`: every instance sends to its counterpart, so that the links of each of the `tiers` (1 server-ToR,
    2 ToR-aggregation, 3 aggregation-core) carry `utilisation`; `onoff`: for an exponential time of mean `mean_on_s` a
    hot spot of `flows` connections runs into one decode instance, drawn anew each time, then silence for an exponential
    time of mean `mean_off_s`; `hotspot`: every `period_s` the next rack or pod (`moves`) is sent to by everybody else;
    `incast`: every `period_s`, for half of it, `flows` senders at once into one decode instance; `shuffle`: every
    server sends to every other, `among` those that decode or all.

    `hot_spots`: how many of an `onoff` or `incast` go on independently of each other; in a fabric of n times the size n
    times as many hit every instance as often.

    `utilisation` paces a kind such that the busiest link it loads is expected to carry it, wire headers included; None
    is the kind's own, and greedy where it has none. A paced flow has `connections` of `protocol` each (udp: the worlds
    do not slow it down, but Open vSwitch's symmetric_l4 hash does not look at its ports).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["none", "constant", "onoff", "hotspot", "incast", "shuffle"] = "onoff"
    flows: Annotated[int, Field(ge=1, le=1024)] = 8
    hot_spots: Annotated[int, Field(ge=1, le=1024)] = 1
    mean_on_s: Spell = 5.0
    mean_off_s: Spell = 5.0
    period_s: Spell = 5.0
    utilisation: Annotated[float, Field(gt=0, le=1)] | None = None
    tiers: Annotated[tuple[Literal[1, 2, 3], ...], Field(min_length=1)] = (3,)
    moves: Literal["rack", "pod"] = "rack"
    among: Literal["decode", "all"] = "decode"
    connections: Annotated[int, Field(ge=1, le=64)] = 8
    protocol: Literal["tcp", "udp"] = "tcp"

    @model_validator(mode="after")
    def _udp_has_a_rate(self) -> CongestionSpec:
        if self.protocol == "udp" and self.pace is None and self.kind != "none":
            raise ValueError(f"protocol: udp has no greedy form: give {self.kind} a utilisation")
        return self

    @property
    def pace(self) -> float | None:
        """Utilisation that the busiest link is loaded to; None for greedy connections."""
        return OWN_UTILISATION.get(self.kind) if self.utilisation is None else self.utilisation


def plan_background(
    spec: CongestionSpec, fabric: Fabric, roles: Roles, horizon_s: float, rng: np.random.Generator
) -> tuple[BackgroundFlow, ...]:
    """Every background flow that starts before `horizon_s`, in order of its start.

    WorkloadError when the fabric has no place for the kind.
    """
    plan = _Plan(spec, fabric)
    match spec.kind:
        case "constant":
            plan.add_constant(horizon_s)
        case "shuffle":
            plan.add(0.0, horizon_s, _all_to_all(fabric, roles.decode if spec.among == "decode" else None))
        case "onoff":
            for _ in range(spec.hot_spots):
                _add_onoff(plan, roles, horizon_s, rng)
        case "hotspot":
            _add_hotspot(plan, horizon_s, rng)
        case "incast":
            for start_s in np.arange(0.0, horizon_s, spec.period_s).tolist():
                for _ in range(spec.hot_spots):
                    target = int(rng.choice(roles.decode))
                    sources = _outside(fabric, target, 1, spec.flows, rng)
                    plan.add(start_s, start_s + spec.period_s / 2, [(source, target) for source in sources])
    in_order = sorted(plan.flows, key=lambda flow: flow.start_s)
    return tuple(replace(flow, flow_id=number) for number, flow in enumerate(in_order))


class _Plan:
    """The flows so far, and how a set of pairs becomes flows: greedy, or at a rate that loads the busiest link."""

    def __init__(self, spec: CongestionSpec, fabric: Fabric) -> None:
        self.spec = spec
        self.fabric = fabric
        self.flows: list[BackgroundFlow] = []
        self._capacity = capacities_bps(fabric)

    def add(self, start_s: float, stop_s: float, pairs: Sequence[Pair]) -> None:
        pace = self.spec.pace
        self._append(start_s, stop_s, pairs, None if pace is None or not pairs else pace / self._unit_load(pairs).max())

    def add_constant(self, horizon_s: float) -> None:
        """From the highest tier down: what crosses a tier has loaded those below it already."""
        tier_of, pace = link_tiers(self.fabric), self.spec.pace
        assert pace is not None
        load = np.zeros(len(self._capacity))
        for tier in sorted(set(self.spec.tiers), reverse=True):
            pairs = _counterparts(self.fabric, tier)
            if not pairs:
                raise WorkloadError(f"congestion.tiers: this fabric has no traffic of tier {tier}")
            unit = self._unit_load(pairs)
            of = tier_of == tier
            rate_bps = (pace - load[of].max()) / unit[of].max()
            if rate_bps > 0:
                self._append(0.0, horizon_s, pairs, rate_bps)
                load += rate_bps * unit

    def _unit_load(self, pairs: Sequence[Pair]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Utilisation of every link when each pair sends 1 bit/s, [links]."""
        load = np.zeros(len(self._capacity))
        for pair in pairs:
            load += path_shares(self.fabric, *pair)
        return load / self._capacity

    def _append(self, start_s: float, stop_s: float, pairs: Sequence[Pair], rate_bps: float | None) -> None:
        connections = 1 if rate_bps is None else self.spec.connections
        given = None if rate_bps is None else float(rate_bps)
        for source, target in pairs:
            self.flows.append(
                BackgroundFlow(len(self.flows), start_s, stop_s, source, target, connections, given, self.spec.protocol)
            )


def _add_onoff(plan: _Plan, roles: Roles, horizon_s: float, rng: np.random.Generator) -> None:
    spec = plan.spec
    at_s = float(rng.exponential(spec.mean_off_s))
    while at_s < horizon_s:
        stop_s = at_s + float(rng.exponential(spec.mean_on_s))
        target = int(rng.choice(roles.decode))
        plan.add(at_s, stop_s, [(source, target) for source in _outside(plan.fabric, target, 2, spec.flows, rng)])
        at_s = stop_s + float(rng.exponential(spec.mean_off_s))


def _add_hotspot(plan: _Plan, horizon_s: float, rng: np.random.Generator) -> None:
    spec, everyone = plan.spec, plan.fabric.instances
    place: Callable[[Instance], tuple[int, int]] = (
        (lambda at: (at.pod, at.rack)) if spec.moves == "rack" else (lambda at: (at.pod, 0))
    )
    places = sorted({place(at) for at in everyone})
    if len(places) < 2:
        raise WorkloadError(
            f"congestion.moves: this fabric has one {spec.moves}, and a hot spot needs another to move to"
        )
    order = rng.permutation(len(places)).tolist()
    for turn, start_s in enumerate(np.arange(0.0, horizon_s, spec.period_s).tolist()):
        hot = places[order[turn % len(places)]]
        inside = [at.index for at in everyone if place(at) == hot]
        outside = [at.index for at in everyone if place(at) != hot]
        pairs = [(source, inside[k % len(inside)]) for k, source in enumerate(outside)]
        plan.add(start_s, start_s + spec.period_s, pairs)


def _outside(fabric: Fabric, target: int, least_tier: int, count: int, rng: np.random.Generator) -> list[int]:
    """Sources in turn from a shuffled list of the instances `least_tier` or more from the target (1 if none is)."""
    everyone = [instance.index for instance in fabric.instances]
    far = [source for source in everyone if fabric.tier(source, target) >= least_tier]
    pool = far or [source for source in everyone if fabric.tier(source, target) >= 1]
    order = rng.permutation(len(pool)).tolist()
    return [pool[order[k % len(order)]] for k in range(count)] if pool else []


def _counterparts(fabric: Fabric, tier: int) -> list[Pair]:
    """Every instance with the one at the same place in the next server (tier 1), rack (2) or pod (3); none if alone."""
    spec = fabric.spec
    found = {(at.pod, at.rack, at.server, at.slot): at.index for at in fabric.instances}
    pairs = []
    for (pod, rack, server, slot), index in found.items():
        there = (
            (pod, rack, (server + 1) % spec.servers_per_rack, slot),
            (pod, (rack + 1) % spec.racks_per_pod, server, slot),
            ((pod + 1) % spec.pods, rack, server, slot),
        )[tier - 1]
        if found[there] != index:
            pairs.append((index, found[there]))
    return pairs


def _all_to_all(fabric: Fabric, only: Sequence[int] | None) -> list[Pair]:
    """A pair for every server and every other one; the instances of a server take turns."""
    servers: dict[tuple[int, int, int], list[int]] = {}
    for at in fabric.instances:
        if only is None or at.index in only:
            servers.setdefault((at.pod, at.rack, at.server), []).append(at.index)
    groups = list(servers.values())
    if len(groups) < 2:
        raise WorkloadError("congestion.among: a shuffle needs two servers")
    return [
        (source[(a + b) % len(source)], target[(a + b) % len(target)])
        for a, source in enumerate(groups)
        for b, target in enumerate(groups)
        if a != b
    ]
