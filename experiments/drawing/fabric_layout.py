"""Where the nodes of a fabric stand in a picture, and what its levels are called: for static and moving pictures."""

from __future__ import annotations

from topologies import Fabric, Level

LEVEL_NAMES = {Level.SERVER: "server switch", Level.TOR: "ToR", Level.AGGREGATION: "aggregation", Level.CORE: "core"}


def level_height(level: Level) -> float:
    """Of a level of switches; instances are at 0."""
    return float(level) + 1.0


def place_nodes(fabric: Fabric) -> dict[str, tuple[float, float]]:
    """x and y of every node by name: instances evenly in a row, each switch in the middle of what it serves."""
    places = {instance.name: (float(instance.index), 0.0) for instance in fabric.instances}
    width = len(fabric.instances)
    for level in Level:
        switches = fabric.switches_at(level)
        for number, switch in enumerate(switches):
            places[switch.name] = ((number + 0.5) * width / len(switches) - 0.5, level_height(level))
    return places
