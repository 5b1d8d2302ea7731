"""The fabric: its specification, the four-tier fat-tree, addressing, placement, equal-cost paths and link shaping.

    from topologies import FabricSpec, build_fattree

    fabric = build_fattree(FabricSpec(pods=2))
    print(len(fabric.instances), "instances,", len(fabric.switches), "switches")
    print(fabric.paths(0, 15))  # the equal-cost paths, each a tuple of link indices

Standard library only. `topologies.mininet`, which needs Mininet, is imported by its own name.
"""

from topologies.addressing import FABRIC_PREFIX, instance_ip, instance_mac, pod_prefix, rack_prefix, server_prefix
from topologies.fabric import HOPS_OF_TIER, Fabric, FabricError, FabricSpec, Instance, Level, Link, Switch
from topologies.fattree import build_fattree
from topologies.nearest_name import did_you_mean, did_you_mean_file
from topologies.partition import cut_links, partition
from topologies.placement import PLACEMENTS, Roles, place
from topologies.shaping import (
    DEFAULT_BURST_S,
    DEFAULT_MARK_PACKETS,
    DEFAULT_QUEUE_PACKETS,
    FRAME_B,
    QueueKind,
    Shape,
    ShapingError,
    fair_queue,
    fair_queue_count,
    lossless_command,
    lossy_command,
    middle_of,
    rate_command,
)

__all__ = [
    "DEFAULT_BURST_S",
    "DEFAULT_MARK_PACKETS",
    "DEFAULT_QUEUE_PACKETS",
    "FABRIC_PREFIX",
    "FRAME_B",
    "HOPS_OF_TIER",
    "PLACEMENTS",
    "Fabric",
    "FabricError",
    "FabricSpec",
    "Instance",
    "Level",
    "Link",
    "QueueKind",
    "Roles",
    "Shape",
    "ShapingError",
    "Switch",
    "build_fattree",
    "cut_links",
    "did_you_mean",
    "did_you_mean_file",
    "fair_queue",
    "fair_queue_count",
    "instance_ip",
    "instance_mac",
    "lossless_command",
    "lossy_command",
    "middle_of",
    "partition",
    "place",
    "pod_prefix",
    "rack_prefix",
    "rate_command",
    "server_prefix",
]
