"""The flow table of each switch, as data: longest-prefix routes, ECMP upward, detours around failed links.

Pure: the fabric in, rules out. `messages` encodes them as OpenFlow, `forwarding` sends them, `detours` computes which
upward ports reach which racks.
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
"""`bundle`: Nicira's action, with a different hash on every switch. `select`: a SELECT group of OpenFlow 1.3, the
negative control: every level has the same hash, so the levels polarise."""

PRIORITY_OF_PREFIX_BASE = 100
"""A rule's priority is this plus the length of its prefix; table miss has priority 0."""


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
    """Send out of one port."""

    port: int


@dataclass(frozen=True)
class Bundle:
    """Send out of one of `ports`: highest random weight over a symmetric 5-tuple hash; skips dead ports."""

    ports: tuple[int, ...]
    basis: int


@dataclass(frozen=True)
class ToGroup:
    """Process with a group."""

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
    """All groups and rules of one switch, groups before the rules that use them.

    Routes by longest prefix. Addresses below the switch go down through their port. Unused addresses of its own prefix
    are dropped. All other addresses of 10/8 go up. Every route exists for IPv4 and for ARP, so an ARP request reaches
    only its target and nothing is flooded or sent to the controller. Everything else is dropped.

    `cut`: indices of the links that are down. A prefix that some upward ports no longer reach gets its own route with
    the ports that do (not with `select`, the negative control). Raises FabricError for an unknown dpid or `ecmp`.
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

    Multiplication by an odd number and exclusive or are one-to-one on 16 bits, so distinct datapath ids stay distinct.
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
    """The prefix of every lower neighbour, and the port to it."""
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
