"""What the two apps of one manager share: the configuration, the fabric, and which switches are programmed.

An OpenFlow manager builds one instance and hands it to every app that names it in `_CONTEXTS`.
"""

from __future__ import annotations

from controller.config import config_from_environment
from topologies import Fabric, build_fattree

CONTEXT_NAME = "netkv"


class ControllerContext:
    """Shared state of the apps: forwarding writes it, telemetry reads it.

    `programmed` holds datapath ids, `cut` the indices of links that a switch at one of their ends calls down.
    `packet_ins` counts what switches sent to the controller: 0 unless a rule is wrong.
    """

    def __init__(self) -> None:
        self.config = config_from_environment()
        self.fabric: Fabric = build_fattree(self.config.fabric)
        self.programmed: set[int] = set()
        self.cut: frozenset[int] = frozenset()
        self.packet_ins = 0
