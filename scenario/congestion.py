"""Background traffic: which flows load the fabric, and when. A pure plan from the seed, replayed by either world."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from scenario.background_load import BackgroundFlow, capacities_bps, link_tiers, path_shares
from scenario.sections import Section
from topologies import Fabric, Instance, Roles
from workloads import WorkloadError

DEFAULT_UTILISATION = {"constant": 0.5, "hotspot": 0.8, "shuffle": 0.5}
"""Utilisation of the busiest link by kind, where none is specified; other kinds are greedy. Our choice."""

SHORTEST_PERIOD_S = 0.01
"""Least mean of an on or off period, seconds: a plan of shorter ones would take longer to make than any run of it."""

Pair = tuple[int, int]


class CongestionSpec(Section):
    """Which background flows load the fabric, and when, in real seconds and real bit/s.

    A flow of specified or default `utilisation` is paced; otherwise its one connection is greedy. UDP flows do not
    react to congestion in either world, and Open vSwitch's symmetric_l4 hash does not read their ports.
    """

    kind: Literal["none", "constant", "onoff", "hotspot", "incast", "shuffle"] = Field(
        "onoff",
        description="`none`. `constant`: every instance sends to its counterpart in the next server, rack or pod."
        " `onoff`: `flows` connections into one decode instance, drawn anew for each on period, with exponential on and"
        " off periods. `hotspot`: everybody else sends into one rack or pod, drawn anew every `period_s`. `incast`:"
        " every `period_s`, for half of it, `flows` senders into one decode instance. `shuffle`: every server to every"
        " other.",
    )
    flows: int = Field(8, ge=1, le=1024, description="Senders of an onoff or incast hot spot, 1 to 1024.")
    hot_spots: int = Field(
        1,
        ge=1,
        le=1024,
        description="Independent hot spots of onoff or incast, 1 to 1024: n times as many on a fabric of n times the"
        " size hit every instance as often.",
    )
    mean_on_s: float = Field(
        5.0, ge=SHORTEST_PERIOD_S, allow_inf_nan=False, description="Mean on period of onoff, s, at least 0.01."
    )
    mean_off_s: float = Field(
        5.0, ge=SHORTEST_PERIOD_S, allow_inf_nan=False, description="Mean off period of onoff, s, at least 0.01."
    )
    period_s: float = Field(
        5.0, ge=SHORTEST_PERIOD_S, allow_inf_nan=False, description="Period of hotspot and incast, s, at least 0.01."
    )
    utilisation: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Expected utilisation of the busiest link, wire headers included, above 0, at most 1; it paces the"
        " flows. None: constant 0.5, hotspot 0.8, shuffle 0.5, other kinds are greedy.",
    )
    tiers: tuple[Literal[1, 2, 3], ...] = Field(
        (3,),
        min_length=1,
        description="Tiers of links that constant loads, at least one of 1 (server-ToR), 2 (ToR-aggregation) and 3"
        " (aggregation-core).",
    )
    moves: Literal["rack", "pod"] = Field("rack", description="What hotspot moves between: `rack` or `pod`.")
    among: Literal["decode", "all"] = Field(
        "decode", description="Servers of shuffle: those with decode instances (`decode`) or `all`."
    )
    connections: int = Field(8, ge=1, le=64, description="Connections of one paced flow, 1 to 64.")
    protocol: Literal["tcp", "udp"] = Field("tcp", description="Transport of the flows; `udp` needs a utilisation.")

    @model_validator(mode="after")
    def _udp_has_a_rate(self) -> CongestionSpec:
        if self.protocol == "udp" and self.pace is None and self.kind != "none":
            raise ValueError(f"protocol: udp has no greedy form: give {self.kind} a utilisation")
        return self

    @property
    def correlation_s(self) -> float:
        """Time scale of the congestion: the integral of the autocorrelation of a link's load over all lags, seconds.

        What telemetry can know fades with its age in units of this. On-off: the autocorrelation of alternating
        exponential periods is exp(-lag / tau), 1 / tau = 1 / mean on + 1 / mean off (Kleinrock, Queueing Systems I,
        2.4). A square pulse of width w whose place is drawn anew has a triangle of width w, hence w / 2: a hot spot
        stays for `period_s`, an incast for half of it. Infinite where nothing moves.
        """
        if self.kind == "onoff":
            return 1 / (1 / self.mean_on_s + 1 / self.mean_off_s)
        return {"hotspot": self.period_s / 2, "incast": self.period_s / 4}.get(self.kind, math.inf)

    @property
    def pace(self) -> float | None:
        """Utilisation that the busiest link is loaded to; None for greedy connections."""
        return DEFAULT_UTILISATION.get(self.kind) if self.utilisation is None else self.utilisation


def plan_background(
    spec: CongestionSpec, fabric: Fabric, roles: Roles, from_s: float, to_s: float, rng: np.random.Generator
) -> tuple[BackgroundFlow, ...]:
    """Every background flow between two instants, seconds from t = 0, `from_s` <= 0; a flow's number is its place.

    The traffic is stationary: it has always gone on, and t = 0 is any moment of it. `rng` decides where and when; the
    same generator state gives the same traffic, flow by flow and number by number, whatever `from_s` is: flows that
    have stopped by t = 0 come last, the latest first. WorkloadError when the fabric is too small for the kind.
    """
    plan = _Plan(spec, fabric)
    match spec.kind:
        case "constant":
            plan.add_constant(from_s, to_s)
        case "shuffle":
            plan.add(from_s, to_s, _all_to_all(fabric, roles.decode if spec.among == "decode" else None))
        case "onoff":
            for _ in range(spec.hot_spots):
                _add_onoff(plan, roles, from_s, to_s, *rng.spawn(2))
        case "hotspot":
            _add_hotspot(plan, from_s, to_s, *rng.spawn(2))
        case "incast":
            after, before = rng.spawn(2)
            for turn, start_s in _turns(spec.period_s, from_s, to_s):
                drawn = after if turn >= 0 else before
                for _ in range(spec.hot_spots):
                    target = int(drawn.choice(roles.decode))
                    sources = _outside(fabric, target, 1, spec.flows, drawn)
                    plan.add(start_s, start_s + spec.period_s / 2, [(source, target) for source in sources])
    later = sorted((flow for flow in plan.flows if flow.stop_s > 0), key=lambda flow: flow.start_s)
    earlier = sorted((flow for flow in plan.flows if from_s < flow.stop_s <= 0), key=lambda flow: -flow.stop_s)
    return tuple(
        replace(flow, flow_id=number, start_s=max(flow.start_s, from_s))
        for number, flow in enumerate([*later, *earlier])
    )


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

    def add_constant(self, from_s: float, to_s: float) -> None:
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
                self._append(from_s, to_s, pairs, rate_bps)
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


def _add_onoff(
    plan: _Plan, roles: Roles, from_s: float, to_s: float, after: np.random.Generator, before: np.random.Generator
) -> None:
    """`after` draws what begins after t = 0 and when, `before` what began earlier, back from there.

    Exponential periods have no memory: of the one that t = 0 falls into, what is left and what has passed are both as
    long as a whole one, on average.
    """
    spec = plan.spec

    def on(start_s: float, stop_s: float, drawn: np.random.Generator) -> None:
        target = int(drawn.choice(roles.decode))
        plan.add(start_s, stop_s, [(one, target) for one in _outside(plan.fabric, target, 2, spec.flows, drawn)])

    off_since_s, off_until_s = 0.0, 0.0
    if after.random() < spec.mean_on_s / (spec.mean_on_s + spec.mean_off_s):
        off_since_s, off_until_s = -float(before.exponential(spec.mean_on_s)), float(after.exponential(spec.mean_on_s))
        on(off_since_s, off_until_s, after)
    while (start_s := off_until_s + float(after.exponential(spec.mean_off_s))) < to_s:
        off_until_s = start_s + float(after.exponential(spec.mean_on_s))
        on(start_s, off_until_s, after)
    while (stop_s := off_since_s - float(before.exponential(spec.mean_off_s))) > from_s:
        off_since_s = stop_s - float(before.exponential(spec.mean_on_s))
        on(off_since_s, stop_s, before)


def _add_hotspot(
    plan: _Plan, from_s: float, to_s: float, after: np.random.Generator, before: np.random.Generator
) -> None:
    """Every place is drawn anew, the last one included: in turn, an old snapshot would be right again after a round."""
    spec, everyone = plan.spec, plan.fabric.instances
    place: Callable[[Instance], tuple[int, int]] = (
        (lambda at: (at.pod, at.rack)) if spec.moves == "rack" else (lambda at: (at.pod, 0))
    )
    places = sorted({place(at) for at in everyone})
    if len(places) < 2:
        raise WorkloadError(
            f"congestion.moves: this fabric has one {spec.moves}, and a hot spot needs another to move to"
        )
    for turn, start_s in _turns(spec.period_s, from_s, to_s):
        hot = places[int((after if turn >= 0 else before).integers(len(places)))]
        inside = [at.index for at in everyone if place(at) == hot]
        outside = [at.index for at in everyone if place(at) != hot]
        pairs = [(source, inside[k % len(inside)]) for k, source in enumerate(outside)]
        plan.add(start_s, start_s + spec.period_s, pairs)


def _turns(period_s: float, from_s: float, to_s: float) -> list[tuple[int, float]]:
    """The periods that begin before `to_s` and end after `from_s`, as (number, start in s); number 0 begins at t = 0.

    From there on, and then back.
    """
    forth = range(math.ceil(to_s / period_s))
    back = range(-1, math.floor(from_s / period_s) - 1, -1)
    return [(turn, turn * period_s) for turn in (*forth, *back)]


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
