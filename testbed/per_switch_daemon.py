"""A Mininet switch with its own ovs-vswitchd.

A shared ovs-vswitchd forwards packets of all switches in one loop over all their ports. With one process for each
switch, a loop has few ports, and the switches run on all processors (docs/explanation/fidelity.md).
"""

from __future__ import annotations

from typing import Any

from mininet.node import OVSSwitch

from testbed.switches import SwitchDaemon


class PerSwitchDaemonSwitch(OVSSwitch):
    """A switch whose userspace datapath has its own process, started by `start_switches`."""

    @classmethod
    def setup(cls) -> None:
        """Skip Mininet's check, which asks the shared daemon; there is none."""

    @classmethod
    def isOldOVS(cls) -> bool:
        return False

    def vsctl(self, *words: Any, **options: Any) -> Any:
        return self.cmd("ovs-vsctl", f"--db={SwitchDaemon(self.name).database}", *words, **options)

    def bridgeOpts(self) -> str:
        found: str = super().bridgeOpts()
        return found.replace("datapath_type=netdev", "datapath_type=dummy")
