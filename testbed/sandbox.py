"""The sandbox: private network, process and mount namespaces for one testbed, removed by the kernel with its parent.

Open vSwitch, the controller, Mininet and the workers run inside. The host's interfaces and its own Open vSwitch are not
changed, two sandboxes can run at once, and a sandbox ends with its parent.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from testbed.child_python import child_python
from testbed.errors import BrokenRunError, TestbedError

PRIVATE_MOUNTS = ("/run", "/etc/openvswitch", "/var/log/openvswitch")
"""Fresh tmpfs inside: sockets, pid files, the switch database and its logs exist only in the sandbox."""

RUN_DIR = Path("/run/netkv")
"""Inside the sandbox only: control and oracle sockets, worker logs."""

NAMESPACES = ("--net", "--pid", "--mount", "--propagation", "private", "--fork", "--mount-proc")


SANDBOX_REMEDY = (
    "start the container privileged (docker run --privileged), or use the virtual machine"
    " (docs/how-to/virtual-machine.md)"
)
TRY_S = 10.0
"""How long making a sandbox is tried; it takes 10 ms."""


class NotRootError(TestbedError):
    """This process may not make a sandbox."""


def sandbox_command(inner: Sequence[str], *more: str) -> list[str]:
    """The command that runs `inner` as the first process of a new sandbox; all in it is killed when the parent ends.

    `more`: further options of unshare(1).
    """
    return ["setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES, *more, "--kill-child=SIGKILL", "--", *inner]


def python_in_sandbox(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules inside a new sandbox."""
    return sandbox_command(child_python(module, *arguments))


def hidden_in_sandbox(path: str) -> str:
    """The directory of `PRIVATE_MOUNTS` that keeps a path of the host from being seen inside; empty if none does."""
    return next((place for place in PRIVATE_MOUNTS if PurePosixPath(path).is_relative_to(place)), "")


def require_sandbox() -> None:
    """NotRootError, with the remedy, unless this process may make a sandbox."""
    require_root()
    if lack := sandbox_lacks():
        raise NotRootError(f"the emulated world needs namespaces of its own ({lack}): {SANDBOX_REMEDY}")


def require_root() -> None:
    """NotRootError, with the remedy, unless this process is root's."""
    if os.geteuid() != 0:
        raise NotRootError(
            "the emulated world needs root for its network namespaces: run it again with sudo"
            f" {PurePosixPath(sys.prefix) / 'bin' / 'netkv'}"
        )


def sandbox_lacks() -> str:
    """What the kernel says to root who tries to make a sandbox, as in most containers; empty if it lets him, or if
    that could not be tried."""
    try:
        done = subprocess.run(sandbox_command(["true"]), capture_output=True, text=True, timeout=TRY_S, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else ""


def prepare_sandbox() -> None:
    """Inside a new sandbox: private tmpfs, loopback up, a directory for sockets. To be called first."""
    for directory in PRIVATE_MOUNTS:
        if not os.path.isdir(directory):
            raise TestbedError(f"{directory} is missing: install Open vSwitch (./provision.sh)")
        run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", directory)
    run("mount", "-t", "sysfs", "sysfs", "/sys")
    # No IPv6 router solicitations and multicast reports on the measured links (-e: the kernel may have no IPv6).
    run("sysctl", "-eqw", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.disable_ipv6=1")
    run("ip", "link", "set", "lo", "up")
    Path("/run/openvswitch").mkdir()
    RUN_DIR.mkdir(mode=0o700)


def run(*command: str, deadline_s: float = 30.0) -> str:
    """Run a command to its end and return its output. BrokenRunError with its message when it fails or hangs.

    TestbedError when there is no such command.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s, check=False)
    except FileNotFoundError:
        raise TestbedError(f"{command[0]} is not installed: run ./provision.sh") from None
    except subprocess.TimeoutExpired:
        raise BrokenRunError(f"`{' '.join(command)}` did not end within {deadline_s:g} s") from None
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split()) or "no message"
        raise BrokenRunError(f"`{' '.join(command)}` failed with exit code {done.returncode}: {words}")
    return done.stdout
