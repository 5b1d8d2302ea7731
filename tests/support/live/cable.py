"""Two network namespaces and a cable between them: the smallest network with a shaped port."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from topologies.shaping import Shape, shaping_command

NEAR, FAR = "10.0.0.1", "10.0.0.2"

Prefix = tuple[str, ...]
"""What a command begins with to run in one of the namespaces."""


@contextmanager
def cable(shape: Shape | None, back: Shape | None = None) -> Iterator[tuple[Prefix, Prefix]]:
    """A cable with these shapes at the near and the far end (None: unshaped): prefixes of `NEAR` and `FAR`. Needs
    root."""
    holders = [subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE) for _ in "ab"]
    try:
        here = os.readlink("/proc/self/ns/net")
        while any(os.readlink(f"/proc/{holder.pid}/ns/net") == here for holder in holders):
            time.sleep(0.01)
        near, far = (("nsenter", "-t", str(holder.pid), "-n") for holder in holders)
        pair = f"ip link add eth0 type veth peer name eth0 netns {holders[1].pid}"
        subprocess.run([*near, *pair.split()], check=True)
        for prefix, address in ((near, f"{NEAR}/24"), (far, f"{FAR}/24")):
            up = (
                f"ip link set lo up && ip link set eth0 up && ip address add {address} dev eth0"
                " && ethtool -K eth0 tx off tso off gso off"
            )
            subprocess.run([*prefix, "sh", "-c", up], check=True, stdout=subprocess.DEVNULL)
        for prefix, one in ((near, shape), (far, back)):
            if one is not None:
                subprocess.run([*prefix, "sh", "-c", shaping_command("eth0", one)], check=True)
        yield near, far
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()
