"""What a fabric is: the specification a user writes and the immutable graph built from it.

Owns the vocabulary (instance, switch, directed link, tier) and the checks on a specification. How the graph is wired
is `fattree`'s business, how it is addressed `addressing`'s. Standard library only: plain `mn --custom` can load it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum
from functools import cached_property
from typing import Any, ClassVar, NamedTuple


class FabricError(ValueError):
    """A fabric that cannot exist; the message names the field and the reason."""


MOST_SWITCHES = 4095
"""Switches of one level: a datapath id holds the number in 12 bits, an interface's name no more than 15 characters."""

LARGEST_QUANTITY = 1e18
"""A rate, ratio or latency beyond this is an error of input; below it no sum or quotient of a fabric overflows."""


class Level(IntEnum):
    """The four levels of switches, from the instances up."""

    SERVER = 0
    TOR = 1
    AGGREGATION = 2
    CORE = 3


@dataclass(frozen=True)
class FabricSpec:
    """A four-tier fat-tree in real units (bit/s, seconds).

    Rates: every instance joins its server switch (which stands for the NVSwitch) at `nvlink_rate_bps`, every server its
    ToR at `nic_rate_bps`. Above that capacity is divided by the oversubscription ratios: a ToR's uplinks carry
    `servers_per_rack * nic_rate_bps / tor_oversubscription` in all, a pod's core links that of its ToRs divided by
    `aggregation_oversubscription`. Defaults: NVLink 450 GB/s as in Dynamo's mocker, 25 GB/s a server as in BLIS
    inference-sim, oversubscription 2:1 at both levels (our choice).

    Raises FabricError when a field is out of range or the fabric cannot be built or addressed.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    pods: int = field(default=2, metadata={"description": "Pods, 1 to 255."})
    racks_per_pod: int = field(default=2, metadata={"description": "Racks of a pod, each with one ToR, 1 to 255."})
    servers_per_rack: int = field(
        default=2, metadata={"description": "Servers of a rack, each with one server switch, 1 to 15."}
    )
    gpus_per_server: int = field(
        default=8, metadata={"description": "GPUs of a server, a multiple of gpus_per_instance, at most 14 times it."}
    )
    gpus_per_instance: int = field(default=4, metadata={"description": "GPUs of a serving instance, at least 1."})
    aggregations_per_pod: int = field(
        default=2,
        metadata={"description": "Aggregation switches of a pod, at least 1: equal-cost paths between its racks."},
    )
    cores_per_group: int = field(
        default=2, metadata={"description": "Core switches of each aggregation's group, at least 1."}
    )
    nvlink_rate_bps: float = field(
        default=3.6e12, metadata={"description": "Rate of an instance's link to its server switch, bit/s, above 0."}
    )
    nic_rate_bps: float = field(
        default=200e9, metadata={"description": "Rate of a server's link to its ToR, bit/s, above 0."}
    )
    tor_oversubscription: float = field(
        default=2.0, metadata={"description": "Rate into a ToR from its servers over that of its uplinks, at least 1."}
    )
    aggregation_oversubscription: float = field(
        default=2.0, metadata={"description": "Rate into a pod's aggregations over that of its core links, at least 1."}
    )
    hop_latency_s: float = field(default=1e-6, metadata={"description": "One-way latency of one link, s, at least 0."})

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.type == "int":
                _check_count(item.name, value)
            else:
                _check_quantity(item.name, value, zero_allowed=item.name == "hop_latency_s")
        if self.gpus_per_server % self.gpus_per_instance:
            raise FabricError(
                f"gpus_per_instance: {self.gpus_per_instance} does not divide a server's {self.gpus_per_server} GPUs"
            )
        for name, value, limit in (
            ("pods", self.pods, 255),
            ("racks_per_pod", self.racks_per_pod, 255),
            ("servers_per_rack", self.servers_per_rack, 15),
            ("gpus_per_server / gpus_per_instance", self.instances_per_server, 14),
        ):
            if value > limit:
                raise FabricError(f"{name}: {value} is beyond the {limit} that the address plan can hold")
        for name, switches in (
            ("pods x racks_per_pod x servers_per_rack", self.servers),
            ("pods x aggregations_per_pod", self.pods * self.aggregations_per_pod),
            ("aggregations_per_pod x cores_per_group", self.aggregations_per_pod * self.cores_per_group),
        ):
            if switches > MOST_SWITCHES:
                raise FabricError(f"{name}: {switches} switches are beyond the {MOST_SWITCHES} a level can hold")
        for name in ("tor_oversubscription", "aggregation_oversubscription"):
            if getattr(self, name) < 1:
                raise FabricError(f"{name}: {getattr(self, name)} is below 1 (1 is a non-blocking fabric)")

    @property
    def instances_per_server(self) -> int:
        """Serving instances of one server."""
        return self.gpus_per_server // self.gpus_per_instance

    @property
    def servers(self) -> int:
        """Servers of the whole fabric."""
        return self.pods * self.racks_per_pod * self.servers_per_rack

    @property
    def instances(self) -> int:
        """Serving instances of the whole fabric."""
        return self.servers * self.instances_per_server

    @property
    def gpus(self) -> int:
        """GPUs of the whole fabric."""
        return self.servers * self.gpus_per_server

    @property
    def switch_ports(self) -> int:
        """Ports of all switches together."""
        uplinks = self.pods * self.aggregations_per_pod * (self.racks_per_pod + self.cores_per_group)
        return self.instances + 2 * (self.servers + uplinks)

    @property
    def tor_uplink_rate_bps(self) -> float:
        """Capacity of one ToR-to-aggregation link, bit/s."""
        return self.servers_per_rack * self.nic_rate_bps / self.tor_oversubscription / self.aggregations_per_pod

    @property
    def core_uplink_rate_bps(self) -> float:
        """Capacity of one aggregation-to-core link, bit/s."""
        return self.racks_per_pod * self.tor_uplink_rate_bps / self.aggregation_oversubscription / self.cores_per_group

    def tier_rate_bps(self, tier: int) -> float:
        """Nominal bandwidth of a tier, bit/s: what one server gets when every server sends at that tier at once."""
        nic = self.nic_rate_bps
        return (
            self.nvlink_rate_bps,
            nic,
            nic / self.tor_oversubscription,
            nic / self.tor_oversubscription / self.aggregation_oversubscription,
        )[tier]

    def tier_latency_s(self, tier: int) -> float:
        """One-way latency of a tier, seconds: its hops times `hop_latency_s`."""
        return HOPS_OF_TIER[tier] * self.hop_latency_s


HOPS_OF_TIER = (2, 4, 6, 8)
"""Links on a path of tier 0 (same server), 1 (same rack), 2 (same pod), 3 (across pods)."""


@dataclass(frozen=True)
class Instance:
    """One serving instance: `gpus_per_instance` GPUs of one server; one Mininet host.

    `index` counts over the fabric; `rack`, `server` and `slot` count within their parent.
    """

    index: int
    pod: int
    rack: int
    server: int
    slot: int

    @property
    def name(self) -> str:
        return f"h{self.index}"


@dataclass(frozen=True)
class Switch:
    """One switch. `pod`, `rack` and `server` are -1 where the level has none; `number` counts within its parent.

    An aggregation's `number` is its core group; a core's `pod` is -1 and its `group` the aggregation it serves.
    """

    name: str
    level: Level
    dpid: int
    pod: int = -1
    rack: int = -1
    server: int = -1
    number: int = 0
    group: int = -1


@dataclass(frozen=True)
class Link:
    """One direction of a cable. `index` is its place in every per-link array; `name` is `source>target`."""

    index: int
    source: str
    target: str
    source_port: int
    target_port: int
    capacity_bps: float

    @property
    def name(self) -> str:
        return f"{self.source}>{self.target}"


@dataclass(frozen=True)
class Fabric:
    """The graph of a specification: instances, switches and directed links, each in a fixed order."""

    spec: FabricSpec
    instances: tuple[Instance, ...]
    switches: tuple[Switch, ...]
    links: tuple[Link, ...]

    @cached_property
    def link_index(self) -> Mapping[tuple[str, str], int]:
        """Index of the directed link from one node name to another."""
        return {(link.source, link.target): link.index for link in self.links}

    @cached_property
    def link_by_name(self) -> Mapping[str, Link]:
        """Every directed link by its name, `source>target`."""
        return {link.name: link for link in self.links}

    @cached_property
    def switch_by_name(self) -> Mapping[str, Switch]:
        """Every switch by its name."""
        return {switch.name: switch for switch in self.switches}

    @cached_property
    def switch_by_dpid(self) -> Mapping[int, Switch]:
        """Every switch by its datapath id."""
        return {switch.dpid: switch for switch in self.switches}

    @cached_property
    def links_from(self) -> Mapping[str, tuple[Link, ...]]:
        """Outgoing links of every node, in port order."""
        outgoing: dict[str, list[Link]] = {}
        for link in self.links:
            outgoing.setdefault(link.source, []).append(link)
        return {node: tuple(sorted(found, key=lambda link: link.source_port)) for node, found in outgoing.items()}

    def switches_at(self, level: Level) -> tuple[Switch, ...]:
        """The switches of one level, in the order of `switches`."""
        return tuple(switch for switch in self.switches if switch.level == level)

    def tier(self, source: int, target: int) -> int:
        """Distance tier of two instances: 0 same server, 1 same rack, 2 same pod, 3 across pods."""
        a, b = self.instances[source], self.instances[target]
        if a.pod != b.pod:
            return 3
        if a.rack != b.rack:
            return 2
        return 1 if a.server != b.server else 0

    def paths(self, source: int, target: int) -> tuple[tuple[int, ...], ...]:
        """Every equal-cost path between two instances, each a tuple of link indices in the order they are crossed.

        The way up is ECMP, the way down is unique: 1 path at tiers 0 and 1, one an aggregation at tier 2, one a core
        at tier 3. An instance has no path to itself (FabricError).
        """
        return tuple(self.path(source, target, number) for number in range(self.path_count(source, target)))

    def path_count(self, source: int, target: int) -> int:
        """The number of equal-cost paths between two instances."""
        tier = self.tier(source, target)
        if tier <= 1:
            return 1
        return self.spec.aggregations_per_pod * (self.spec.cores_per_group if tier == 3 else 1)

    def path(self, source: int, target: int, number: int) -> tuple[int, ...]:
        """One of `paths`: they count by aggregation, and across pods by core within each."""
        if source == target:
            raise FabricError(f"instance {source}: there is no path from an instance to itself")
        a, b, spec, cables = self.instances[source], self.instances[target], self.spec, self._cables
        out, into = cables.out[source], cables.into[target]
        if a.pod == b.pod and a.rack == b.rack:
            return (out[0], into[1]) if a.server == b.server else (*out, *into)
        first, last = a.pod * spec.racks_per_pod + a.rack, b.pod * spec.racks_per_pod + b.rack  # ToRs
        if a.pod == b.pod:
            return *out, cables.from_tor[first][number], cables.to_tor[last][number], *into
        group = number // spec.cores_per_group
        over = cables.to_core[a.pod][number], cables.from_core[b.pod][number]
        return *out, cables.from_tor[first][group], *over, cables.to_tor[last][group], *into

    @cached_property
    def _cables(self) -> _Cables:
        spec, index = self.spec, self.link_index
        groups, cores = range(spec.aggregations_per_pod), range(spec.cores_per_group)
        out, into = [], []
        for at in self.instances:
            rack = at.pod * spec.racks_per_pod + at.rack
            server, tor = f"srv{rack * spec.servers_per_rack + at.server}", f"tor{rack}"
            out.append((index[at.name, server], index[server, tor]))
            into.append((index[tor, server], index[server, at.name]))
        racks = [
            (f"tor{pod * spec.racks_per_pod + rack}", [f"agg{pod * len(groups) + group}" for group in groups])
            for pod in range(spec.pods)
            for rack in range(spec.racks_per_pod)
        ]
        pods = [
            [
                (f"agg{pod * len(groups) + group}", f"core{group * len(cores) + core}")
                for group in groups
                for core in cores
            ]
            for pod in range(spec.pods)
        ]
        return _Cables(
            out,
            into,
            from_tor=[tuple(index[tor, agg] for agg in aggs) for tor, aggs in racks],
            to_tor=[tuple(index[agg, tor] for agg in aggs) for tor, aggs in racks],
            to_core=[tuple(index[agg, core] for agg, core in pairs) for pairs in pods],
            from_core=[tuple(index[core, agg] for agg, core in pairs) for pairs in pods],
        )


class _Cables(NamedTuple):
    """Link indices by place: two of each instance (to or from its ToR), one an aggregation of each ToR, one a core
    of each pod."""

    out: list[tuple[int, int]]
    into: list[tuple[int, int]]
    from_tor: list[tuple[int, ...]]
    to_tor: list[tuple[int, ...]]
    to_core: list[tuple[int, ...]]
    from_core: list[tuple[int, ...]]


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise FabricError(f"{name}: {value!r} is not a whole number")
    if value < 1:
        raise FabricError(f"{name}: {value} is below 1")


def _check_quantity(name: str, value: object, *, zero_allowed: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FabricError(f"{name}: {value!r} is not a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise FabricError(f"{name}: {value} is not finite")
    if value > LARGEST_QUANTITY:
        raise FabricError(f"{name}: is beyond {LARGEST_QUANTITY:g}")
    if value < 0 or (value == 0 and not zero_allowed):
        raise FabricError(f"{name}: {value} is not positive")
