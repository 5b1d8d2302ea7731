"""The sandbox: private network, process and mount namespaces for one testbed, removed by the kernel with its parent.

Everything that touches packets (Open vSwitch, the controller, Mininet, workers) runs inside. The host's interfaces and
its own Open vSwitch are never touched, two sandboxes run side by side, and whatever ends the parent ends them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from testbed.errors import TestbedError

PRIVATE_MOUNTS = ("/run", "/etc/openvswitch", "/var/log/openvswitch")
"""Fresh tmpfs inside: sockets, pid files, the switch database and its logs live and die with the sandbox."""

RUN_DIR = Path("/run/netkv")
"""Inside the sandbox only: control and oracle sockets, worker logs."""

NAMESPACES = ("--net", "--pid", "--mount", "--propagation", "private", "--fork", "--mount-proc")


class NotRootError(TestbedError):
    """The sandbox needs root."""


def sandbox_command(inner: Sequence[str]) -> list[str]:
    """The command that runs `inner` as the first process of a new sandbox and dies, with all in it, with its parent."""
    return ["setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES, "--kill-child=SIGKILL", "--", *inner]


def python_in_sandbox(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules inside a new sandbox."""
    return sandbox_command([sys.executable, "-m", module, *arguments])


def require_root() -> None:
    """NotRootError, with the mend, unless this process may make namespaces."""
    if os.geteuid() != 0:
        raise NotRootError("the emulated world needs root for its network namespaces: run it again with sudo")


def furnish() -> None:
    """Inside a new sandbox: private tmpfs, loopback up, a directory for sockets. To be called before anything else."""
    for directory in PRIVATE_MOUNTS:
        if not os.path.isdir(directory):
            raise TestbedError(f"{directory} is missing: install Open vSwitch (./provision.sh)")
        run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", directory)
    run("mount", "-t", "sysfs", "sysfs", "/sys")
    # No router solicitations and multicast reports of the switches' interfaces on the links that are measured
    # (-e: a kernel without IPv6 has none).
    run("sysctl", "-eqw", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.disable_ipv6=1")
    run("ip", "link", "set", "lo", "up")
    Path("/run/openvswitch").mkdir()
    RUN_DIR.mkdir(mode=0o755)


def run(*command: str, deadline_s: float = 30.0) -> str:
    """Run a command to its end and return what it printed. TestbedError with its own words when it fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s, check=False)
    except FileNotFoundError:
        raise TestbedError(f"{command[0]} is not installed: run ./provision.sh") from None
    except subprocess.TimeoutExpired:
        raise TestbedError(f"`{' '.join(command)}` did not end within {deadline_s:g} s") from None
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split()) or "no message"
        raise TestbedError(f"`{' '.join(command)}` failed with exit code {done.returncode}: {words}")
    return done.stdout
