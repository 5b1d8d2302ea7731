"""A Mininet switch with an ovs-vswitchd of its own.

One ovs-vswitchd forwards a packet at every hop in the same loop, in which it also looks after every other port and
switch. With one a switch, a hop is a loop of few ports, and the switches run on all processors (docs/fidelity.md).
"""

from __future__ import annotations

from typing import Any

from mininet.node import OVSSwitch

from testbed.switches import SwitchDaemon


class PerSwitchDaemonSwitch(OVSSwitch):
    """Open vSwitch's userspace datapath in the process of this switch alone, started by `start_switches`."""

    @classmethod
    def setup(cls) -> None:
        """Nothing to check: Mininet's own check asks the daemon of all switches, and there is none."""

    @classmethod
    def isOldOVS(cls) -> bool:
        return False

    def vsctl(self, *words: Any, **options: Any) -> Any:
        return self.cmd("ovs-vsctl", f"--db={SwitchDaemon(self.name).database}", *words, **options)

    def bridgeOpts(self) -> str:
        found: str = super().bridgeOpts()
        return found.replace("datapath_type=netdev", "datapath_type=dummy")
