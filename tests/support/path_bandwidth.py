"""What a transfer gets on the paths between two instances, by the definition: a walk over every path."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from scheduler.link_table import spreading
from topologies import Fabric

Floats = NDArray[np.float64]


def bottleneck_Bps(fabric: Fabric, left_Bps: Floats, source: int, target: int, stripes: int) -> float:
    """The definition: the least of the two ends and, from tier 2 up, of what the ways between two ToRs carry together.

    Across pods several ways share a ToR's link to one aggregation, so they are held to what those links carry as well.
    """
    paths = fabric.paths(source, target)
    if fabric.tier(source, target) < 2:
        return float(min(left_Bps[link] for link in paths[0]))
    ends = min(left_Bps[link] for link in (*paths[0][:2], *paths[0][-2:]))
    ways = [path[2:-2] for path in paths]
    by_aggregation = {(way[0], way[-1]) for way in ways}
    return float(min(ends, _joint_Bps(ways, left_Bps, stripes), _joint_Bps(by_aggregation, left_Bps, stripes)))


def _joint_Bps(ways: Collection[tuple[int, ...]], left_Bps: Floats, stripes: int) -> float:
    return float(sum(min(left_Bps[link] for link in way) for way in ways)) * spreading(stripes, len(ways))
