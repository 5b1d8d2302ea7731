"""The state that the two apps of one manager share: configuration, fabric, programmed switches, links that are down.

An OpenFlow manager builds one instance and hands it to every app that names it in `_CONTEXTS`.
"""

from __future__ import annotations

from controller.config import config_from_environment
from topologies import Fabric, build_fattree

CONTEXT_NAME = "netkv"


class ControllerContext:
    """Shared state of the apps: forwarding writes it, telemetry reads it.

    `programmed`: datapath ids. `cut`: indices of links that the switch at one of their ends reports as down.
    `packet_ins`: packets that switches sent to the controller; more than 0 means that a rule is wrong.
    """

    def __init__(self) -> None:
        self.config = config_from_environment()
        self.fabric: Fabric = build_fattree(self.config.fabric)
        self.programmed: set[int] = set()
        self.cut: frozenset[int] = frozenset()
        self.packet_ins = 0
