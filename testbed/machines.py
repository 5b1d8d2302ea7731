"""The machines of one fabric: the driver's own, and further ones, each a sandbox within the driver's as a stand-in.

A stand-in has network, process and mount namespaces, switches and a monotonic clock of its own. What leads to it:

- words that begin every command line there: nsenter(1) for a stand-in, ssh(1) for a computer;
- `JOINT`, a network of the machines, here a bridge; it carries OpenFlow and the tunnels of the links that are cut;
- the folder of the driver's Unix sockets, which ssh would forward (`-R path:path`).
"""

from __future__ import annotations

import select
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from testbed.child_python import child_python
from testbed.errors import TestbedError
from testbed.sandbox import run, sandbox_command

JOINT = "joint"
"""The interface into the network of the machines, on each of them."""

JOINT_PREFIX, JOINT_BITS = "198.18.0.", 24
"""Of the range that RFC 2544 keeps for test networks."""

DRIVER_ADDRESS = f"{JOINT_PREFIX}1"

VXLAN_B = 50
"""What a frame grows by in a tunnel (RFC 7348): headers of Ethernet (14), IPv4 (20), UDP (8) and VXLAN (8)."""

JOINT_MTU_B = 1_500 + VXLAN_B
"""So that a frame of the fabric crosses whole, and MTU and segment size are those of one machine."""

OFFLOADS_OFF = ("tx", "off", "tso", "off", "gso", "off", "gro", "off")
"""Frames that a receiver has merged would not fit through a userspace switch."""

CLOCKS_APART_S = 1_000.0
"""By which the clock of each further stand-in is ahead of the one before: computers have no common CLOCK_MONOTONIC."""

START_DEADLINE_S = 30.0

TELL_TIME = "import sys, time\nfor _ in sys.stdin: print(repr(time.monotonic()), flush=True)"
EXCHANGES = 50


class Exchange(NamedTuple):
    """Of one question for the time: the driver's clock before and after, and the answer, s."""

    asked_s: float
    told_s: float
    heard_s: float


class ClockOffset(NamedTuple):
    """How far a machine's CLOCK_MONOTONIC is ahead of the driver's, and by how much that may be wrong, s."""

    ahead_s: float = 0.0
    error_s: float = 0.0


@dataclass(frozen=True)
class Machine:
    """A machine as its driver sees it; by itself, the driver's own.

    `name`: as Mininet's Cluster Edition has it. `address`: in the network of the machines. `enter`: words before a
    command that is to run there.
    """

    name: str = "localhost"
    address: str = "127.0.0.1"
    enter: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False, compare=False)

    def clock_offset(self) -> ClockOffset:
        """Its clock against ours, now. TestbedError when it does not answer."""
        return clock_offset(self._exchanges()) if self.enter else ClockOffset()

    def _exchanges(self) -> list[Exchange]:
        python = [sys.executable, "-I", "-S", "-c", TELL_TIME]
        with subprocess.Popen(
            [*self.enter, *python], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        ) as clock:
            assert clock.stdin is not None
            assert clock.stdout is not None
            found = []
            for _ in range(EXCHANGES):
                asked_s = time.monotonic()
                clock.stdin.write("\n")
                answer = clock.stdout.readline()
                if not answer:
                    raise TestbedError(f"{self.name}: it does not tell the time")
                found.append(Exchange(asked_s, float(answer), time.monotonic()))
            clock.stdin.close()
        return found


def clock_offset(exchanges: Iterable[Exchange]) -> ClockOffset:
    """By the exchange with the shortest round trip (Cristian, Probabilistic clock synchronization, 1989)."""
    asked_s, told_s, heard_s = min(exchanges, key=lambda exchange: exchange.heard_s - exchange.asked_s)
    return ClockOffset(told_s - (asked_s + heard_s) / 2, (heard_s - asked_s) / 2)


def start_machines(machines: int) -> list[Machine]:
    """The driver's own machine and a stand-in for each further one, joined; of one alone, no network.

    TestbedError when one does not start.
    """
    if machines == 1:
        return [Machine()]
    run("ip", "link", "add", JOINT, "mtu", str(JOINT_MTU_B), "type", "bridge")
    run("ip", "address", "add", f"{DRIVER_ADDRESS}/{JOINT_BITS}", "dev", JOINT)
    run("ip", "link", "set", JOINT, "up")
    starting = [_start(number) for number in range(1, machines)]
    return [
        Machine(address=DRIVER_ADDRESS),
        *(_joined(number, process) for number, process in enumerate(starting, start=1)),
    ]


def _start(number: int) -> subprocess.Popen[bytes]:
    own_clock = ("--time", "--monotonic", str(round(number * CLOCKS_APART_S)))
    return subprocess.Popen(
        sandbox_command(child_python("testbed.machine_main"), *own_clock),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _joined(number: int, process: subprocess.Popen[bytes]) -> Machine:
    """The machine once its switches run, with its end of the network. It ends with its standard input."""
    assert process.stdout is not None
    name, address = f"machine{number}", f"{JOINT_PREFIX}{number + 1}"
    said = b""
    if select.select([process.stdout], [], [], START_DEADLINE_S)[0]:
        said = process.stdout.readline()
    if said != b"up\n":
        raise TestbedError(f"{name} did not start: {said.decode(errors='replace').strip() or 'no message'}")
    # unshare(1) stands outside: its children's namespaces are the inner ones.
    spaces = f"/proc/{process.pid}/ns"
    inner = (f"--net={spaces}/net", f"--mount={spaces}/mnt", f"--pid={spaces}/pid_for_children")
    enter = ("nsenter", *inner, f"--time={spaces}/time_for_children", "--", "setpriv", "--pdeathsig", "KILL")
    port, mtu = f"{JOINT}{number}", str(JOINT_MTU_B)
    end = ("peer", "name", JOINT, "mtu", mtu, "netns", str(process.pid))
    run("ip", "link", "add", port, "mtu", mtu, "type", "veth", *end)
    run("ip", "link", "set", port, "master", JOINT, "up")
    run("ethtool", "-K", port, *OFFLOADS_OFF)
    run(*enter, "ethtool", "-K", JOINT, *OFFLOADS_OFF)
    run(*enter, "ip", "address", "add", f"{address}/{JOINT_BITS}", "dev", JOINT)
    run(*enter, "ip", "link", "set", JOINT, "up")
    return Machine(name, address, enter, process)
