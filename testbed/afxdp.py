"""Switches whose ports are AF_XDP sockets, served by a thread that does nothing else (ovs-vswitchd.conf.db(5)).

A hop takes a third of the time that it takes through vswitchd's main thread (docs/explanation/fidelity.md). What they
ask of the links is in `topologies.mininet.SplitLink`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from mininet.node import OVSSwitch

from testbed.datapath import afxdp_bytes, afxdp_lacks, memory_bytes
from testbed.errors import TestbedError
from testbed.sandbox import run

PROC = Path("/proc")
POLL_MODE = "pmd-"
"""How Open vSwitch names its poll-mode threads."""

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


def last_processor() -> int:
    """The processor of the poll-mode thread."""
    return max(os.sched_getaffinity(0))


def reserve_processor(processor: int) -> None:
    """Leave a processor to the poll-mode thread: this process, all others of the sandbox and what they start from now
    on keep to the rest. Beside workers on its processor the thread waited 3 to 9 % of the time.
    """
    others = os.sched_getaffinity(0) - {processor}
    os.sched_setaffinity(0, others)
    moved = True
    while moved:  # what a thread has started meanwhile still had the old processors
        moved = False
        for thread in PROC.glob("[0-9]*/task/[0-9]*"):
            with suppress(ProcessLookupError, FileNotFoundError):
                name = (thread / "comm").read_text(encoding="utf-8")
                if not name.startswith(POLL_MODE) and os.sched_getaffinity(int(thread.name)) != others:
                    os.sched_setaffinity(int(thread.name), others)
                    moved = True


def prepare_daemon(processor: int) -> None:
    """One poll-mode thread, on that processor. Before any port is added."""
    settings = (f"other_config:pmd-cpu-mask={1 << processor:#x}", f"other_config:pmd-maxsleep={MAX_SLEEP_US}")
    run("ovs-vsctl", "--no-wait", "set", "Open_vSwitch", ".", *settings)


class AfxdpSwitch(OVSSwitch):
    """A userspace switch with ports of type afxdp, in native mode: the generic one gets no redirected frame."""

    def intfOpts(self, intf: Any) -> str:
        found: str = super().intfOpts(intf)
        return f"{found} type=afxdp options:xdp-mode=native"
