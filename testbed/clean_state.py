"""Checks that a fabric holds nothing of an earlier run: no queue, no connection, no process, no moving frames.

One bring-up serves many runs, so each run starts and ends with this check. It waits for up to `DEADLINE_S`, because a
closed connection may still deliver its last bytes; what is left after that is listed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from testbed.fabric_up import FabricUp
from testbed.port_watch import parse_devices
from testbed.sandbox import run

DEADLINE_S = 5.0
"""Longer than the retransmission of a lost last segment: 0.1 to 1.6 s with a minimum timeout of 100 ms."""

AGAIN_S = 0.05

FEW_FRAMES = 10
"""Frames that a port may send during a check: the kernel may refresh a neighbour by an ARP request."""

MOST_NAMED = 5
"""Longest list of what is left; the rest is counted."""

TIME_WAIT = 6
TCP_STATES = {
    **{1: "established", 2: "syn-sent", 3: "syn-recv", 4: "fin-wait-1", 5: "fin-wait-2", 7: "close"},
    **{8: "close-wait", 9: "last-ack", 10: "listen", 11: "closing", 12: "new-syn-recv"},
}
"""Of the kernel's include/net/tcp_states.h. TIME_WAIT is not open: no process holds it and it sends nothing."""

SOCKET_TABLES = ("tcp", "tcp6", "udp", "udp6")
UNBOUND = "00000000:0000"


class HostNamespace(NamedTuple):
    """An instance's namespace: its name and the process that holds it, which is the only one when it is clean."""

    name: str
    process: int


class CleanState:
    """Checks a fabric that is up. Tests inject the clock, `sleep` and the path of /proc."""

    def __init__(
        self,
        up: FabricUp,
        *,
        proc: Path = Path("/proc"),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._hosts = [HostNamespace(instance.name, up.net[instance.name].pid) for instance in up.fabric.instances]
        self._proc = proc
        self._clock = clock
        self._sleep = sleep

    def prove(self) -> dict[str, Any]:
        """Check until nothing is left or the deadline has passed.

        `clean`; `took_s`; `left`: what the last check found, one line for each; `carried_bytes`: what all ports of the
        switches had sent by then, none of it for the next run.
        """
        began_s = self._clock()
        while True:
            left = [*self._processes(), *self._sockets()]
            before = self._ports()
            left += self._queues()
            after = self._ports()
            left += moved(before, after)
            took_s = self._clock() - began_s
            if not left or took_s >= DEADLINE_S:
                return {
                    "clean": not left,
                    "took_s": round(took_s, 3),
                    "left": left[:MOST_NAMED] + ([f"and {len(left) - MOST_NAMED} more"] if left[MOST_NAMED:] else []),
                    "carried_bytes": sum(sent_bytes for sent_bytes, _ in after.values()),
                }
            self._sleep(AGAIN_S)

    def _processes(self) -> Iterator[str]:
        """Every process in a host's network namespace but the one that holds it."""
        host_of = {os.stat(self._proc / str(host.process) / "ns/net").st_ino: host for host in self._hosts}
        for place in self._proc.iterdir():
            if not place.name.isdigit():
                continue
            try:
                host = host_of.get(os.stat(place / "ns/net").st_ino)
                if host is not None and int(place.name) != host.process:
                    words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    yield f"{host.name}: process {place.name} runs: {words[:120]}"
            except OSError:
                continue  # the process has ended

    def _sockets(self) -> Iterator[str]:
        for host in self._hosts:
            for table in SOCKET_TABLES:
                place = self._proc / str(host.process) / "net" / table
                if place.exists():
                    yield from (f"{host.name}: {found}" for found in open_sockets(table, place.read_text()))

    def _queues(self) -> Iterator[str]:
        """Every port of a switch and interface of a host, by one shell, because starting processes is slow."""
        show = "tc -j -s qdisc show"
        looks = [show, *(f"mnexec -a {host.process} {show}" for host in self._hosts)]
        for shown in run("sh", "-ec", "; echo; ".join(looks)).splitlines():
            yield from waiting(shown)

    def _ports(self) -> dict[str, tuple[int, int]]:
        """Bytes and frames that every port of the switches has sent."""
        found = parse_devices((self._proc / "net/dev").read_text())
        return {name: (sent.bytes, sent.frames) for name, (sent, _) in found.items() if "-eth" in name}


def open_sockets(table: str, text: str) -> Iterator[str]:
    """The sockets in a table of /proc/net (proc_pid_net(5)) but those in TIME_WAIT, a line each."""
    for line in text.splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if table.startswith("udp"):
            yield f"{table} socket on {_readable(local)}"
        elif (number := int(state, 16)) != TIME_WAIT:
            yield f"{table} {TCP_STATES.get(number, state)} {_readable(local)} to {_readable(remote)}"


def waiting(shown: str) -> Iterator[str]:
    """The queues that are not empty in what `tc -j -s qdisc show` prints, a line each."""
    for queue in json.loads(shown or "[]"):
        if queue.get("qlen") or queue.get("backlog"):
            frames, size_bytes = queue["qlen"], queue["backlog"]
            yield f"{queue['dev']}: {frames} frames of {size_bytes} bytes wait in its {queue['kind']} queue"


def moved(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> list[str]:
    """The port that sent most frames between two looks, when these were more than a few."""
    frames = {port: after[port][1] - before[port][1] for port in before.keys() & after.keys()}
    busiest = max(frames, key=lambda port: frames[port], default="")
    if not busiest or frames[busiest] <= FEW_FRAMES:
        return []
    return [f"{busiest}: sent {frames[busiest]} frames when no frame was expected"]


def _readable(address: str) -> str:
    """`0100000A:1B59`, bytes of an IPv4 address in the machine's order, as `10.0.0.1:7001`; IPv6 as it is."""
    if len(address) != len(UNBOUND):
        return address
    number, _, port = address.partition(":")
    return f"{'.'.join(str(byte) for byte in reversed(bytes.fromhex(number)))}:{int(port, 16)}"
