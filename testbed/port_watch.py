"""What the switches' ports carried during a run, read from the kernel's interface counters ten times a second.

Independent of the controller and of the workers, so that the one can be held against the others: rates against the
shaper, bytes against what the workers say they moved, and frames that went in against frames that came out.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from testbed.sandbox import run
from topologies import Fabric, Shape

DEVICES = Path("/proc/net/dev")
SOFTNET = Path("/proc/net/softnet_stat")
WINDOW_S = 0.1

STILL_S = 0.2
"""Without a frame on any link for so long, the queues of the fabric are empty."""

STILL_DEADLINE_S = 5.0

BUSY = 0.85
BUSY_WINDOWS = 4
"""A port is saturated where it was this full in so many windows in a row; the first and the last do not count."""


class PortCount(NamedTuple):
    """Bytes and frames of one direction since the interface was made."""

    bytes: int
    frames: int


class PortWatch:
    """Samples every directed link of a fabric for as long as `watch` runs; `evidence` sums up what was seen.

    `link_divisor` and `burst_s`: of the emulation, which say what the shapers let through.
    """

    def __init__(self, fabric: Fabric, link_divisor: float, burst_s: float) -> None:
        self._fabric = fabric
        switches = fabric.switch_by_name
        # A host's own interface is in its namespace: its link is read where it arrives.
        self._sent = {
            link.name: (f"{link.source}-eth{link.source_port}", True)
            if link.source in switches
            else (f"{link.target}-eth{link.target_port}", False)
            for link in fabric.links
        }
        self._shapes = {link.name: Shape(link.capacity_bps / link_divisor, burst_s=burst_s) for link in fabric.links}
        self._first = self._last = self.read()
        self._softnet = softnet()
        self._dropped = dropped(_queues())
        self._busy: dict[str, list[float]] = {name: [] for name in self._sent}
        self._saturated: list[float] = []
        self._overshoot = 0.0, ""

    def read(self) -> dict[str, PortCount]:
        """Every link's counter now."""
        found = parse_devices(DEVICES.read_text())
        return {name: found[interface][0 if sent else 1] for name, (interface, sent) in self._sent.items()}

    async def watch(self) -> None:
        """Look at every window until cancelled."""
        before_s, self._last = time.monotonic(), self.read()
        while True:
            await asyncio.sleep(WINDOW_S)
            begun_s, now, read_s = time.monotonic(), self.read(), time.monotonic()
            for name, count in now.items():
                self._note(name, count.bytes - self._last[name].bytes, read_s - before_s)
            before_s, self._last = begun_s, now

    async def until_still(self) -> None:
        """Return when nothing moves any more, or at the deadline: a slow port with a full queue takes its time."""
        until_s = time.monotonic() + STILL_DEADLINE_S
        before = None
        while (now := self.read()) != before and time.monotonic() < until_s:
            before = now
            await asyncio.sleep(STILL_S)

    def evidence(self) -> dict[str, Any]:
        """What came of it, in bytes of the emulation. To be asked once nothing moves any more.

        `port_overshoot`: the most that a port carried in a window over what its shaper allows, and `port_overshoot_at`
        the link that it was. `saturated_rate`: median of full ports' rates over the shaper's, with `saturated_windows`
        to take it from. `link_bytes`: what each link carried. `delivered_bytes`: what reached hosts. `lost_frames`:
        went into the fabric and did not come out, of which the switches' full queues dropped `queue_drops`.
        `softnet_squeezes`, `softnet_drops`: the kernel ran out of its budget of packets, or of room for them.
        """
        end = self.read()
        moved = {
            name: PortCount(*(b - a for a, b in zip(self._first[name], end[name], strict=True))) for name in self._sent
        }
        hosts = {instance.name for instance in self._fabric.instances}
        into = [moved[link.name] for link in self._fabric.links if link.source in hosts]
        out = [moved[link.name] for link in self._fabric.links if link.target in hosts]
        for name in self._busy:
            self._end_busy_period(name)
        rates = sorted(self._saturated)
        squeezes, drops = (b - a for a, b in zip(self._softnet, softnet(), strict=True))
        return {
            "link_bytes": {name: count.bytes for name, count in moved.items()},
            "port_overshoot": self._overshoot[0],
            "port_overshoot_at": self._overshoot[1],
            "saturated_windows": len(rates),
            "saturated_rate": rates[len(rates) // 2] if rates else None,
            "delivered_bytes": sum(count.bytes for count in out),
            "delivered_frames": sum(count.frames for count in out),
            "lost_frames": sum(count.frames for count in into) - sum(count.frames for count in out),
            "queue_drops": dropped(_queues()) - self._dropped,
            "softnet_squeezes": squeezes,
            "softnet_drops": drops,
        }

    def _note(self, name: str, moved_bytes: int, window_s: float) -> None:
        shape = self._shapes[name]
        drained_bytes = shape.rate_bps / 8 * window_s
        self._overshoot = max(self._overshoot, (moved_bytes / (drained_bytes + shape.burst_bytes), name))
        full = moved_bytes / drained_bytes
        if full >= BUSY:
            self._busy[name].append(full)
        else:
            self._end_busy_period(name)

    def _end_busy_period(self, name: str) -> None:
        if len(self._busy[name]) >= BUSY_WINDOWS:
            self._saturated.extend(self._busy[name][1:-1])
        self._busy[name].clear()


def parse_devices(text: str) -> Mapping[str, tuple[PortCount, PortCount]]:
    """Sent and received of every interface in /proc/net/dev (proc_pid_net(5))."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, numbers = line.partition(":")
        fields = [int(word) for word in numbers.split()]
        found[name.strip()] = PortCount(fields[8], fields[9]), PortCount(fields[0], fields[1])
    return found


def dropped(queues: str) -> int:
    """Frames that the shapers of all ports have dropped, in what `tc -s -j qdisc show` prints (tc(8))."""
    return sum(found["drops"] for found in json.loads(queues) if found["kind"] == "htb")


def _queues() -> str:
    return run("tc", "-s", "-j", "qdisc", "show")


def softnet() -> tuple[int, int]:
    """Times that the kernel ran out of its budget of received packets, and packets it dropped, over all cores."""
    rows = [[int(word, 16) for word in line.split()] for line in SOFTNET.read_text().splitlines()]
    return sum(row[2] for row in rows), sum(row[1] for row in rows)
