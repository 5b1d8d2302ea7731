"""Switches whose ports are AF_XDP sockets, served by a thread that does nothing else (ovs-vswitchd.conf.db(5)).

A hop takes a third of the time that it takes through vswitchd's main thread (docs/explanation/fidelity.md). What they
ask of the links is in `topologies.mininet.SplitLink`.
"""

from __future__ import annotations

import os
from typing import Any

from mininet.node import OVSSwitch

from testbed.datapath import afxdp_bytes, afxdp_lacks, memory_bytes
from testbed.errors import TestbedError
from testbed.sandbox import run

MAX_SLEEP_US = 50
"""How long the thread may sleep when nothing arrives: at 0 it polls and takes a processor whole."""


def check_machine(ports: int) -> None:
    """TestbedError, one line with a remedy, unless this machine can have so many such ports now."""
    if lack := afxdp_lacks():
        raise TestbedError(f"emulation.datapath=afxdp: {lack}; use emulation.datapath=user")
    available, needed = memory_bytes("MemAvailable"), afxdp_bytes(ports)
    if needed > available:
        raise TestbedError(
            f"emulation.datapath=afxdp: the {ports} ports of this fabric take {needed / 1e9:.1f} GB of memory and"
            f" {available / 1e9:.1f} GB are free; use emulation.datapath=user, or a smaller fabric"
        )


def reserve_processor() -> int:
    """Leave the last processor that this process may use to the poll-mode thread: its number.

    This process and all that it starts from now on keep to the others. Beside workers on its processor the thread
    waited 3 to 9 % of the time.
    """
    *others, last = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others)
    return last


def prepare_daemon(processor: int) -> None:
    """One poll-mode thread, on that processor. Before any port is added."""
    settings = (f"other_config:pmd-cpu-mask={1 << processor:#x}", f"other_config:pmd-maxsleep={MAX_SLEEP_US}")
    run("ovs-vsctl", "--no-wait", "set", "Open_vSwitch", ".", *settings)


class AfxdpSwitch(OVSSwitch):
    """A userspace switch with ports of type afxdp, in native mode: the generic one gets no redirected frame."""

    def intfOpts(self, intf: Any) -> str:
        found: str = super().intfOpts(intf)
        return f"{found} type=afxdp options:xdp-mode=native"
