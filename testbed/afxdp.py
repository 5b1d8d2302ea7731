"""Switches whose ports are AF_XDP sockets, served by a thread that does nothing else (ovs-vswitchd.conf.db(5)).

A port of the usual userspace datapath is looked after by vswitchd's main thread between its other duties. One of type
`afxdp` has a poll-mode thread, and a hop takes a sixth of the time (docs/explanation/fidelity.md). What it asks of the
links is in `topologies.mininet.SplitLink`.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from mininet.node import OVSSwitch

from testbed.sandbox import run

MAX_SLEEP_US = 50
"""How long the thread may sleep when nothing arrives: at 0 it polls and takes a processor whole."""

PORT_BYTES = 75_000_000
"""Memory that a port takes, measured: buffers of its socket."""


def supported() -> bool:
    """Whether this kernel has sockets of AF_XDP."""
    try:
        socket.socket(getattr(socket, "AF_XDP", 44), socket.SOCK_RAW).close()
    except OSError:
        return False
    return True


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
