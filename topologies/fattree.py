"""The builder: from a specification to the four-tier fat-tree of instances, switches and directed links.

Aggregation i of every pod connects to core group i and to no other, so the way down from a core is unique and only the
way up is ECMP. Ports: on a switch the ports to lower nodes come first (1..n), then those to higher ones.
"""

from __future__ import annotations

from functools import lru_cache

from topologies.fabric import Fabric, FabricSpec, Instance, Level, Link, Switch

INSTANCE_PORT = 0
"""Mininet numbers the only interface of a host 0."""

KEPT_FABRICS = 8
"""Fabrics that are remembered: a sweep checks and makes hundreds of runs on a few."""


@lru_cache(maxsize=KEPT_FABRICS)
def build_fattree(spec: FabricSpec) -> Fabric:
    """The fabric of `spec`, immutable. The same specification always gives the same graph, names and ports.

    Asked for again, it is the same object.
    """
    instances = tuple(
        Instance(index, pod, rack, server, slot)
        for index, (pod, rack, server, slot) in enumerate(
            (pod, rack, server, slot)
            for pod in range(spec.pods)
            for rack in range(spec.racks_per_pod)
            for server in range(spec.servers_per_rack)
            for slot in range(spec.instances_per_server)
        )
    )
    switches = (*_cores(spec), *_aggregations(spec), *_tors(spec), *_server_switches(spec))
    return Fabric(spec, instances, switches, tuple(_links(spec, instances)))


def _dpid(level: Level, index: int) -> int:
    """Datapath id: the level (1 server ... 4 core) above the switch's number, so that it reads well in hexadecimal."""
    return (int(level) + 1) << 12 | (index + 1)


def _cores(spec: FabricSpec) -> list[Switch]:
    return [
        Switch(f"core{index}", Level.CORE, _dpid(Level.CORE, index), number=index % spec.cores_per_group, group=group)
        for group in range(spec.aggregations_per_pod)
        for index in range(group * spec.cores_per_group, (group + 1) * spec.cores_per_group)
    ]


def _aggregations(spec: FabricSpec) -> list[Switch]:
    return [
        Switch(f"agg{index}", Level.AGGREGATION, _dpid(Level.AGGREGATION, index), pod=pod, number=number, group=number)
        for pod in range(spec.pods)
        for number, index in enumerate(range(pod * spec.aggregations_per_pod, (pod + 1) * spec.aggregations_per_pod))
    ]


def _tors(spec: FabricSpec) -> list[Switch]:
    return [
        Switch(f"tor{index}", Level.TOR, _dpid(Level.TOR, index), pod=pod, rack=rack, number=rack)
        for index, (pod, rack) in enumerate((p, r) for p in range(spec.pods) for r in range(spec.racks_per_pod))
    ]


def _server_switches(spec: FabricSpec) -> list[Switch]:
    places = (
        (pod, rack, server)
        for pod in range(spec.pods)
        for rack in range(spec.racks_per_pod)
        for server in range(spec.servers_per_rack)
    )
    return [
        Switch(f"srv{index}", Level.SERVER, _dpid(Level.SERVER, index), pod, rack, server, number=server)
        for index, (pod, rack, server) in enumerate(places)
    ]


def _links(spec: FabricSpec, instances: tuple[Instance, ...]) -> list[Link]:
    """Both directions of every cable, cables from the instances up to the cores."""
    links: list[Link] = []

    def cable(lower: str, lower_port: int, upper: str, upper_port: int, rate_bps: float) -> None:
        links.append(Link(len(links), lower, upper, lower_port, upper_port, rate_bps))
        links.append(Link(len(links), upper, lower, upper_port, lower_port, rate_bps))

    for instance in instances:
        server = instance.index // spec.instances_per_server
        cable(instance.name, INSTANCE_PORT, f"srv{server}", instance.slot + 1, spec.nvlink_rate_bps)
    for server in range(spec.servers):
        rack, number = divmod(server, spec.servers_per_rack)
        cable(f"srv{server}", spec.instances_per_server + 1, f"tor{rack}", number + 1, spec.nic_rate_bps)
    for rack in range(spec.pods * spec.racks_per_pod):
        pod, number = divmod(rack, spec.racks_per_pod)
        for group in range(spec.aggregations_per_pod):
            aggregation = f"agg{pod * spec.aggregations_per_pod + group}"
            cable(f"tor{rack}", spec.servers_per_rack + group + 1, aggregation, number + 1, spec.tor_uplink_rate_bps)
    for pod in range(spec.pods):
        for group in range(spec.aggregations_per_pod):
            aggregation = f"agg{pod * spec.aggregations_per_pod + group}"
            for number in range(spec.cores_per_group):
                core = f"core{group * spec.cores_per_group + number}"
                cable(aggregation, spec.racks_per_pod + number + 1, core, pod + 1, spec.core_uplink_rate_bps)
    return links
