"""The fabric: its specification, the four-tier fat-tree, addressing, placement and equal-cost paths (all pure)."""

from topologies.addressing import instance_ip, instance_mac, rack_prefix, server_prefix
from topologies.fabric import Fabric, FabricError, FabricSpec, Instance, Level, Link, Switch
from topologies.fattree import build_fattree
from topologies.placement import PLACEMENTS, Roles, place

__all__ = [
    "PLACEMENTS",
    "Fabric",
    "FabricError",
    "FabricSpec",
    "Instance",
    "Level",
    "Link",
    "Roles",
    "Switch",
    "build_fattree",
    "instance_ip",
    "instance_mac",
    "place",
    "rack_prefix",
    "server_prefix",
]
