"""Partition: which machine holds which node of a fabric that is emulated on several.

Pods stay whole, so that only links between aggregations and cores are cut: a path between pods of two machines
crosses once where one of them has its core. Cores are dealt out in turn, which cuts as many cables as all on one
machine would, and shares their work.
"""

from __future__ import annotations

from collections.abc import Mapping

from topologies.fabric import Fabric, FabricError, Level, Link


def partition(fabric: Fabric, machines: int) -> Mapping[str, int]:
    """The machine of every instance and switch, by its name; machines count from 0.

    Raises FabricError unless every machine gets a pod.
    """
    pods = fabric.spec.pods
    if not 1 <= machines <= pods:
        raise FabricError(f"machines: {machines} cannot hold a pod each of {pods}")
    instances = {instance.name: instance.pod * machines // pods for instance in fabric.instances}
    switches = {switch.name: switch.pod * machines // pods for switch in fabric.switches}
    cores = {core.name: index % machines for index, core in enumerate(fabric.switches_at(Level.CORE))}
    return instances | switches | cores


def cut_links(fabric: Fabric, machine_of: Mapping[str, int]) -> list[Link]:
    """The directed links that lead from one machine to another."""
    return [link for link in fabric.links if machine_of[link.source] != machine_of[link.target]]
