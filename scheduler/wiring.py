"""The links of a fabric by place, as records: what the compiled loops of a decision read.

Every number of a link is its index in `Fabric.links`. Racks and cores count over the whole fabric, pod by pod and group
by group.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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
        ("rack", np.int64),
    ],
    align=True,
)
RACK = np.dtype(
    [
        ("pod", np.int64),
        ("middle_Bps", np.float64),  # work space of `kernels.available`: what the ways into this rack have together
    ],
    align=True,
)
CORE = np.dtype(
    [
        ("group", np.int64),
        ("up_Bps", np.float64),  # work space of `kernels.available`: from the source's rack to this core,
        ("through_Bps", np.float64),  # and on into the pod at hand
    ],
    align=True,
)
CABLE = np.dtype([("up", np.int64), ("down", np.int64)], align=True)
"""The two links between a switch and one above it."""


class Wiring(NamedTuple):
    """One fabric with its decode instances."""

    capacity_Bps: Floats
    """[links], bytes/s"""
    instances: Records
    """[instances] INSTANCE"""
    racks: Records
    """[racks] RACK"""
    cores: Records
    """[cores] CORE"""
    rack_cables: Records
    """[racks, groups] CABLE: each ToR with the aggregation of each group"""
    core_cables: Records
    """[pods, cores] CABLE: each core with its aggregation in each pod"""
    decode_id: Ints
    """[D] instances that decode, ascending"""


def wire(fabric: Fabric, roles: Roles) -> Wiring:
    """Look the links of a fabric up by place."""
    spec, index = fabric.spec, fabric.link_index
    groups = spec.aggregations_per_pod
    racks = spec.pods * spec.racks_per_pod
    group_of = [core // spec.cores_per_group for core in range(groups * spec.cores_per_group)]

    def cable(lower: str, upper: str) -> tuple[int, int]:
        return index[lower, upper], index[upper, lower]

    def ends(instance: int) -> tuple[int, int, int, int, int]:
        at = fabric.instances[instance]
        rack = at.pod * spec.racks_per_pod + at.rack
        server = f"srv{rack * spec.servers_per_rack + at.server}"
        (up_instance, down_instance), (up_server, down_server) = cable(at.name, server), cable(server, f"tor{rack}")
        return up_instance, up_server, down_server, down_instance, rack

    def aggregation(pod: int, group: int) -> str:
        return f"agg{pod * groups + group}"

    pod_of = [rack // spec.racks_per_pod for rack in range(racks)]
    rack_cables = [[cable(f"tor{rack}", aggregation(pod_of[rack], g)) for g in range(groups)] for rack in range(racks)]
    core_cables = [
        [cable(aggregation(pod, group), f"core{core}") for core, group in enumerate(group_of)]
        for pod in range(spec.pods)
    ]
    return Wiring(
        capacity_Bps=np.array([link.capacity_bps / 8 for link in fabric.links]),
        instances=_records([ends(instance.index) for instance in fabric.instances], INSTANCE),
        racks=_records([(pod, 0.0) for pod in pod_of], RACK),
        cores=_records([(group, 0.0, 0.0) for group in group_of], CORE),
        rack_cables=_records(rack_cables, CABLE),
        core_cables=_records(core_cables, CABLE),
        decode_id=np.array(roles.decode, dtype=np.int64),
    )


def _records(rows: list[Any], kind: np.dtype[np.void]) -> Records:
    return np.array(rows, dtype=kind)
