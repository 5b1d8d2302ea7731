"""Switches whose ports are AF_XDP sockets, served by a thread that does nothing else (ovs-vswitchd.conf.db(5)).

A port of the usual userspace datapath is looked after by vswitchd's main thread between its other duties. One of type
`afxdp` has a poll-mode thread, and a hop takes a sixth of the time (docs/explanation/fidelity.md). What it asks of the
links is in `topologies.mininet.SplitLink`.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from mininet.node import OVSSwitch

from testbed.errors import TestbedError
from testbed.sandbox import run
from topologies import Fabric

AF_XDP: int = getattr(socket, "AF_XDP", 44)
"""Of the kernel's include/linux/socket.h; Python does not always name it."""

MEMORY = Path("/proc/meminfo")

MAX_SLEEP_US = 50
"""How long the thread may sleep when nothing arrives: at 0 it polls and takes a processor whole."""

PORT_BYTES = 75_000_000
"""Memory that a port takes, measured: 4.8 GB for 64. Open vSwitch gives each 16,384 frames of 4 KiB, fixed when it is
compiled."""


def supported() -> bool:
    """Whether this kernel has sockets of AF_XDP; to learn that takes no rights."""
    try:
        socket.socket(AF_XDP, socket.SOCK_RAW).close()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def memory_bytes(fabric: Fabric) -> int:
    """What the ports of a fabric's switches take."""
    return PORT_BYTES * sum(link.source in fabric.switch_by_name for link in fabric.links)


def check_machine(fabric: Fabric) -> None:
    """TestbedError, one line with a remedy, unless this machine can have such ports for a whole fabric."""
    if not supported():
        raise TestbedError("emulation.datapath=afxdp: this kernel has no AF_XDP sockets; use datapath=user")
    lines = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
    available, needed = int(lines["MemAvailable"].split()[0]) * 1024, memory_bytes(fabric)
    if needed > available:
        raise TestbedError(
            f"emulation.datapath=afxdp: the ports of this fabric take {needed / 1e9:.1f} GB of memory and"
            f" {available / 1e9:.1f} GB are free; use datapath=user, or a smaller fabric"
        )


def prepare_daemon() -> None:
    """One poll-mode thread, on the last processor. Before any port is added."""
    mask = 1 << ((os.cpu_count() or 1) - 1)
    settings = (f"other_config:pmd-cpu-mask={mask:#x}", f"other_config:pmd-maxsleep={MAX_SLEEP_US}")
    run("ovs-vsctl", "--no-wait", "set", "Open_vSwitch", ".", *settings)


class AfxdpSwitch(OVSSwitch):
    """A userspace switch with ports of type afxdp, in native mode: the generic one gets no redirected frame."""

    def intfOpts(self, intf: Any) -> str:
        found: str = super().intfOpts(intf)
        return f"{found} type=afxdp options:xdp-mode=native"
