"""Which datapath of Open vSwitch this machine can give a fabric, and what the ports of one ask of it.

`kernel`: the module openvswitch. `afxdp`: ports that are AF_XDP sockets, served by a thread that does nothing else.
`user`: ports that vswitchd's main thread serves between its other duties.
"""

from __future__ import annotations

import os
import shutil
import socket
from functools import cache
from pathlib import Path
from typing import Literal

Datapath = Literal["kernel", "afxdp", "user"]

KERNEL_MODULE = Path("/sys/module/openvswitch")
MEMORY = Path("/proc/meminfo")

AF_XDP: int = getattr(socket, "AF_XDP", 44)
"""Of the kernel's include/linux/socket.h; Python does not always name it."""

PORT_TYPE = b"afxdp-nonpmd"
"""A port type that an ovs-vswitchd knows only if it was built with AF_XDP (lib/netdev-afxdp.c)."""

PORT_BYTES = 75_000_000
"""Memory that a port of AF_XDP takes, measured: 4.8 GB for 64. Open vSwitch gives each 16,384 frames of 4 KiB, fixed
when it is compiled."""

MOST_OF_MEMORY = 0.6
"""Share of a machine's memory that the ports may take before another datapath is chosen."""


def choose_datapath(ports: int) -> tuple[Datapath, str]:
    """The best one that this machine has for switches with so many ports in all, and the reason.

    The kernel's is used if its module is loaded; loading it is left to the administrator (`vm/guest.sh`). It depends
    on what the machine has, not on what is free now, so that a specification means the same all day.
    """
    if KERNEL_MODULE.exists():
        return "kernel", "the openvswitch kernel module is loaded"
    without = "the openvswitch kernel module is not loaded"
    if lack := afxdp_lacks() or _too_many(ports, MOST_OF_MEMORY):
        return "user", f"{without}, and afxdp is out: {lack}"
    return "afxdp", f"{without}, and AF_XDP, two processors and memory for the ports are there"


def afxdp_lacks(ports: int = 0) -> str:
    """What keeps this machine from so many ports of AF_XDP; empty if nothing does. To learn it takes no rights."""
    if not _kernel_has_afxdp():
        return "this kernel has no AF_XDP sockets"
    if not _vswitchd_has_afxdp():
        return "this Open vSwitch was built without AF_XDP"
    if len(os.sched_getaffinity(0)) < 2:
        return "its thread needs a processor beside the others', and there is one"
    return _too_many(ports, 1.0)


def afxdp_bytes(ports: int) -> int:
    """Memory that so many ports of AF_XDP take."""
    return PORT_BYTES * ports


def memory_bytes(field: Literal["MemTotal", "MemAvailable"]) -> int:
    """What the machine has, or what is free (proc(5))."""
    lines = dict(line.split(":", 1) for line in MEMORY.read_text(encoding="ascii").splitlines())
    return int(lines[field].split()[0]) * 1024


def _too_many(ports: int, most: float) -> str:
    needed, present = afxdp_bytes(ports), memory_bytes("MemTotal") if ports else 0
    if needed <= most * present:
        return ""
    return f"{ports} ports take {needed / 1e9:.1f} GB of {present / 1e9:.1f} GB of memory"


def _kernel_has_afxdp() -> bool:
    try:
        socket.socket(AF_XDP, socket.SOCK_RAW).close()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


@cache
def _vswitchd_has_afxdp() -> bool:
    place = shutil.which("ovs-vswitchd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return place is not None and PORT_TYPE in Path(place).read_bytes()
