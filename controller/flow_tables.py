"""What each switch should do, as data: longest-prefix routes of the fat-tree, ECMP on the way up, ways around cuts.

Pure: the fabric in, rules out. `messages` turns them into OpenFlow, `forwarding` sends them, `detours` says which way
up still leads where.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from controller.detours import detours, ports_up
from topologies import (
    FABRIC_PREFIX,
    Fabric,
    FabricError,
    Instance,
    Level,
    Switch,
    instance_ip,
    pod_prefix,
    rack_prefix,
    server_prefix,
)

SELECT_GROUP_ID = 1

ECMP_MODES = ("bundle", "select")
"""`bundle`: Nicira's action with a hash of its own on every switch. `select`: a plain OpenFlow 1.3 SELECT group, the
negative control: the same hash on every level, so that the levels polarise."""

PRIORITY_OF_PREFIX_BASE = 100
"""A rule's priority is this and the length of its prefix; table miss has priority 0."""


class EtherType(IntEnum):
    """The two protocols that the fabric carries (IEEE 802 numbers)."""

    IPV4 = 0x0800
    ARP = 0x0806


@dataclass(frozen=True)
class Match:
    """Packets of a protocol whose target lies in `prefix`: an IPv4 destination, or an ARP target protocol address."""

    ether_type: EtherType
    prefix: str


@dataclass(frozen=True)
class Output:
    """Send by one port."""

    port: int


@dataclass(frozen=True)
class Bundle:
    """Send by one of `ports`: highest random weight over a symmetric 5-tuple hash from `basis`; skips dead ports."""

    ports: tuple[int, ...]
    basis: int


@dataclass(frozen=True)
class ToGroup:
    """Hand over to a group."""

    group_id: int


@dataclass(frozen=True)
class Drop:
    """Discard."""


Action = Output | Bundle | ToGroup | Drop


@dataclass(frozen=True)
class Rule:
    """One entry of the flow table. `match` None is the table miss."""

    priority: int
    match: Match | None
    action: Action


@dataclass(frozen=True)
class Group:
    """A SELECT group of equal weights, each bucket watching its own port."""

    group_id: int
    ports: tuple[int, ...]


def plan_switch(
    fabric: Fabric, dpid: int, *, ecmp: str = "bundle", seed: int = 0, cut: frozenset[int] = frozenset()
) -> tuple[Rule | Group, ...]:
    """Everything that one switch must hold, groups before the rules that use them.

    Routes by longest prefix: what lies below goes down by its own port, an address of the switch's own prefix that
    nobody has is dropped there, the rest of 10/8 goes up. Every route exists twice, for IPv4 and for ARP, so that an
    ARP request travels to its target alone and nothing is ever flooded or sent to the controller; the rest misses and
    is dropped. `cut` holds links that carry nothing, by index: a prefix that not every way up still leads to has a
    route of its own, by those that do (not with `select`, which stays the negative control that it is). Raises
    FabricError for a datapath id that the fabric does not have or an unknown `ecmp`.
    """
    if ecmp not in ECMP_MODES:
        raise FabricError(f"ecmp: {ecmp!r} is not one of {', '.join(ECMP_MODES)}")
    if dpid not in fabric.switch_by_dpid:
        raise FabricError(f"dpid: the fabric has no switch {dpid:#x}")
    switch = fabric.switch_by_dpid[dpid]
    groups, way_up = _way_up(ports_up(fabric, switch), ecmp, hash_basis(dpid, seed))
    routes: list[tuple[str, Action]] = [(prefix, Output(port)) for prefix, port in _ways_down(fabric, switch)]
    if way_up is not None:
        routes += [(_prefix_of(switch), Drop()), (FABRIC_PREFIX, way_up)]
    if isinstance(way_up, Bundle):
        routes += [(prefix, Bundle(ports, way_up.basis)) for prefix, ports in detours(fabric, switch, cut)]
    rules = [
        Rule(PRIORITY_OF_PREFIX_BASE + _length(prefix), Match(ether_type, prefix), action)
        for prefix, action in routes
        for ether_type in EtherType
    ]
    return (*groups, *rules, Rule(0, None, Drop()))


def hash_basis(dpid: int, seed: int = 0) -> int:
    """The 16-bit basis of a switch's ECMP hash: different on every switch of a fabric, the datapath id for seed 0.

    An odd multiplier and an exclusive or are both one-to-one on 16 bits, so distinct datapath ids stay distinct.
    """
    mixed = (seed * 0x9E3779B1) & 0xFFFFFFFF if seed else 0  # 2^32 over the golden ratio: Fibonacci hashing (Knuth)
    multiplier = (mixed >> 16) | 1
    return ((dpid * multiplier) ^ mixed) & 0xFFFF


def _way_up(ports: tuple[int, ...], ecmp: str, basis: int) -> tuple[tuple[Group, ...], Action | None]:
    if not ports:
        return (), None
    if len(ports) == 1:
        return (), Output(ports[0])
    if ecmp == "select":
        return (Group(SELECT_GROUP_ID, ports),), ToGroup(SELECT_GROUP_ID)
    return (), Bundle(ports, basis)


def _ways_down(fabric: Fabric, switch: Switch) -> Iterator[tuple[str, int]]:
    """The prefix below every lower neighbour, and the port towards it."""
    instances = {instance.name: instance for instance in fabric.instances}
    for link in fabric.links_from[switch.name]:
        neighbour = instances.get(link.target) or fabric.switch_by_name[link.target]
        if isinstance(neighbour, Instance) or neighbour.level < switch.level:
            yield _prefix_of(neighbour), link.source_port


def _prefix_of(node: Instance | Switch) -> str:
    """The addresses at or below a node."""
    if isinstance(node, Instance):
        return f"{instance_ip(node)}/32"
    if node.level == Level.SERVER:
        return server_prefix(node.pod, node.rack, node.server)
    if node.level == Level.TOR:
        return rack_prefix(node.pod, node.rack)
    return pod_prefix(node.pod) if node.level == Level.AGGREGATION else FABRIC_PREFIX


def _length(prefix: str) -> int:
    return int(prefix.partition("/")[2])
