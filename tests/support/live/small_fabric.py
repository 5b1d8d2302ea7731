"""Two pods of one rack: eight instances and a third of the default's ports, for tests that need no path choice.

It is up in half the time of the default.
"""

from __future__ import annotations

from topologies import FabricSpec

FIELDS = {"racks_per_pod": 1, "aggregations_per_pod": 1, "cores_per_group": 1}
SMALL_FABRIC = FabricSpec(**FIELDS)
ON_A_SMALL_FABRIC = tuple(word for name, value in FIELDS.items() for word in ("--set", f"fabric.{name}={value}"))
"""The same as options of the command line."""
