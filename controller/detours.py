"""Which upward ports still reach which racks when links are down: reachability in the fat-tree. Pure.

A bundle action skips the dead ports of its own switch. It cannot see a failed link further on. The path down from a
core or an aggregation switch is unique, so the switches below must avoid the one whose path down has failed.
"""

from __future__ import annotations

from collections.abc import Callable

from topologies import Fabric, Level, Switch, pod_prefix, rack_prefix

Ports = tuple[int, ...]
Rack = tuple[int, int]


def detours(fabric: Fabric, switch: Switch, cut: frozenset[int]) -> list[tuple[str, Ports]]:
    """Prefixes of racks or pods that some upward ports of a switch do not reach, with the ports that do.

    `cut`: indices of the links that are down. A prefix that no port reaches is left out.
    """
    if not cut or switch.level not in (Level.TOR, Level.AGGREGATION):
        return []
    leads_to = _leads_to(fabric, switch, cut)
    every = ports_up(fabric, switch)
    found: list[tuple[str, Ports]] = []
    for pod in range(fabric.spec.pods):
        racks = [(pod, rack) for rack in range(fabric.spec.racks_per_pod)]
        ports_of = {rack: tuple(port for port in every if leads_to(port, rack)) for rack in racks}
        if pod != switch.pod and len(set(ports_of.values())) == 1:
            entries = [(pod_prefix(pod), ports_of[racks[0]])]
        else:
            entries = [(rack_prefix(*rack), ports) for rack, ports in ports_of.items() if _is_above(switch, rack)]
        found += [(prefix, ports) for prefix, ports in entries if ports and ports != every]
    return found


def ports_up(fabric: Fabric, switch: Switch) -> Ports:
    """The ports of a switch to switches of higher levels."""
    return tuple(
        link.source_port
        for link in fabric.links_from[switch.name]
        if (upper := fabric.switch_by_name.get(link.target)) is not None and upper.level > switch.level
    )


def _is_above(switch: Switch, rack: Rack) -> bool:
    """Whether the path from a switch to a rack starts upward."""
    return rack[0] != switch.pod or (switch.level == Level.TOR and rack[1] != switch.rack)


def _leads_to(fabric: Fabric, switch: Switch, cut: frozenset[int]) -> Callable[[int, Rack], bool]:
    """Whether a rack can be reached from the neighbour at an upward port, regardless of the link at that port."""

    def beyond(node: str, level: Level) -> list[Switch]:
        """Neighbours of a level over links that are up."""
        links = (link for link in fabric.links_from[node] if link.index not in cut)
        others = (fabric.switch_by_name.get(link.target) for link in links)
        return [other for other in others if other is not None and other.level == level]

    racks_below = {
        aggregation.name: {(tor.pod, tor.rack) for tor in beyond(aggregation.name, Level.TOR)}
        for aggregation in fabric.switches_at(Level.AGGREGATION)
    }
    by_core = {
        core.name: {rack for lower in beyond(core.name, Level.AGGREGATION) for rack in racks_below[lower.name]}
        for core in fabric.switches_at(Level.CORE)
    }
    next_hop = {link.source_port: link.target for link in fabric.links_from[switch.name]}
    if switch.level == Level.AGGREGATION:
        return lambda port, rack: rack in by_core[next_hop[port]]
    across = {
        aggregation: {rack for core in beyond(aggregation, Level.CORE) for rack in by_core[core.name]}
        for aggregation in (next_hop[port] for port in ports_up(fabric, switch))
    }
    return lambda port, rack: rack in (racks_below if rack[0] == switch.pod else across)[next_hop[port]]
