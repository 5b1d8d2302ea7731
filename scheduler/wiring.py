"""The links of a fabric by place, and transfers over them, as records: what the compiled loops of a decision read.

Every number of a link is its index in `Fabric.links`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scheduler.arrays import Floats, Ints
from topologies import Fabric, Roles

Records = NDArray[np.void]
"""An array of one of the types below."""

INSTANCE = np.dtype(
    [
        ("up_instance", np.int64),  # links: the instance to its server switch,
        ("up_server", np.int64),  # this to its ToR,
        ("down_server", np.int64),  # and the way back
        ("down_instance", np.int64),
        ("pod", np.int64),
        ("rack", np.int64),  # within its pod
        ("server", np.int64),  # within its rack
    ],
    align=True,
)
CABLE = np.dtype(
    [
        ("up", np.int64),  # links: to the upper switch,
        ("down", np.int64),  # and back
        ("way_Bps", np.float64),  # work space of `kernels.available`
    ],
    align=True,
)
SPAN = np.dtype(
    [
        ("prefill_id", np.int64),  # a transfer of ours; -1: a gap
        ("decode_id", np.int64),
        ("rate_Bps", np.float64),  # predicted while it runs, real once it has ended
        ("started_s", np.float64),
        ("ended_s", np.float64),  # inf while it runs
        ("kv_bytes", np.float64),
    ],
    align=True,
)


class Wiring(NamedTuple):
    """One fabric with its decode instances."""

    capacity_Bps: Floats
    """[links], bytes/s"""
    instances: Records
    """[instances] INSTANCE"""
    rack_cables: Records
    """[pods, racks of a pod, groups] CABLE: each ToR with the aggregation of each group"""
    core_cables: Records
    """[pods, groups, cores of a group] CABLE: the aggregation of each group with each of its cores"""
    decode_id: Ints
    """[D] instances that decode, ascending"""


def wire(fabric: Fabric, roles: Roles) -> Wiring:
    """Look the links of a fabric up by place."""
    spec, index = fabric.spec, fabric.link_index
    pods, groups, cores = range(spec.pods), range(spec.aggregations_per_pod), range(spec.cores_per_group)

    def cable(lower: str, upper: str) -> tuple[int, int]:
        return index[lower, upper], index[upper, lower]

    def tor(pod: int, rack: int) -> str:
        return f"tor{pod * spec.racks_per_pod + rack}"

    def aggregation(pod: int, group: int) -> str:
        return f"agg{pod * spec.aggregations_per_pod + group}"

    instances = []
    for at in fabric.instances:
        server = f"srv{(at.pod * spec.racks_per_pod + at.rack) * spec.servers_per_rack + at.server}"
        (up_instance, down_instance), (up_server, down_server) = (
            cable(at.name, server),
            cable(server, tor(at.pod, at.rack)),
        )
        instances.append((up_instance, up_server, down_server, down_instance, at.pod, at.rack, at.server))
    rack_cables = [
        [
            [(*cable(tor(pod, rack), aggregation(pod, group)), 0.0) for group in groups]
            for rack in range(spec.racks_per_pod)
        ]
        for pod in pods
    ]
    core_cables = [
        [
            [(*cable(aggregation(pod, group), f"core{group * spec.cores_per_group + core}"), 0.0) for core in cores]
            for group in groups
        ]
        for pod in pods
    ]
    return Wiring(
        capacity_Bps=np.array([link.capacity_bps / 8 for link in fabric.links]),
        instances=np.array(instances, INSTANCE),
        rack_cables=np.array(rack_cables, CABLE),
        core_cables=np.array(core_cables, CABLE),
        decode_id=np.array(roles.decode, dtype=np.int64),
    )
