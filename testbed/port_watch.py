"""The bytes and frames of the switches' ports during a run, from the kernel's interface counters every 100 ms.

Independent of controller and workers, so that they can be compared: rates with the shapers, bytes with those that the
workers report, frames into the fabric with frames out of it.
"""

from __future__ import annotations

import asyncio
import json
import time
from array import array
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from testbed.sandbox import run
from topologies import FRAME_B, Fabric, Shape
from topologies.mininet import meter_of

DEVICES = Path("/proc/net/dev")
SOFTNET = Path("/proc/net/softnet_stat")
WINDOW_S = 0.1

ETHERNET_BYTES = 14
"""Of a frame's header (IEEE 802.3)."""

ACKNOWLEDGEMENT_B = 66
"""Of a TCP segment without data, with Ethernet's, IPv4's and TCP's header and its time stamps (RFC 7323)."""

STILL_S = 0.2
"""After so long without a frame on any link, the queues of the fabric are empty."""

STILL_DEADLINE_S = 5.0

BUSY = 0.85
BUSY_WINDOWS = 4
"""A busy period is at least `BUSY_WINDOWS` consecutive windows at `BUSY` of the rate or more; the first and the last
of them are not used."""


class PortCount(NamedTuple):
    """Bytes and frames of one direction since the interface was created."""

    bytes: int
    frames: int


class PortWatch:
    """Samples every directed link of a fabric while `watch` runs; `evidence` summarises the samples.

    `link_divisor` and `burst_s` of the emulation define what the shapers pass; acknowledgements_apart: beside the
    port's rate, as at a fair port.
    """

    def __init__(
        self,
        fabric: Fabric,
        link_divisor: float,
        burst_s: float,
        split: bool = False,
        acknowledgements_apart: bool = False,
    ) -> None:
        self._fabric = fabric
        self._acknowledgements_apart = acknowledgements_apart
        # A host's interface is in its own namespace, so its link is read at the switch.
        self._sent = {
            link.name: (meter, True)
            if (meter := meter_of(link, fabric, split))
            else (f"{link.target}-eth{link.target_port}", False)
            for link in fabric.links
        }
        # A middle counts what it hands to a port of AF_XDP without the Ethernet header (Linux's drivers/net/veth.c).
        at_afxdp = {link.name for link in fabric.links if split and link.target in fabric.switch_by_name}
        self._uncounted_bytes = {name: ETHERNET_BYTES * (name in at_afxdp) for name in self._sent}
        self._shapes = {link.name: Shape(link.capacity_bps / link_divisor, burst_s=burst_s) for link in fabric.links}
        self._first = self._last = self.read()
        self._sampled_s = array("d")
        self._total_bytes = array("q")  # of all links, at each of these times
        self._softnet = softnet()
        self._dropped = dropped(_queues())
        self._busy: dict[str, list[float]] = {name: [] for name in self._sent}
        self._saturated: Counter[float] = Counter()  # windows by their rate over the shaper's
        self._overshoot = 0.0, ""

    def read(self) -> dict[str, PortCount]:
        """Every link's counter now."""
        found = parse_devices(DEVICES.read_text())
        counted = {name: found[interface][0 if sent else 1] for name, (interface, sent) in self._sent.items()}
        return {
            name: PortCount(count.bytes + self._uncounted_bytes[name] * count.frames, count.frames)
            for name, count in counted.items()
        }

    async def watch(self) -> None:
        """Sample every window until cancelled."""
        before_s, self._last, _ = await asyncio.to_thread(self._timed)
        while True:
            await asyncio.sleep(WINDOW_S)
            begun_s, now, read_s = await asyncio.to_thread(self._timed)
            for name, count in now.items():
                moved = PortCount(count.bytes - self._last[name].bytes, count.frames - self._last[name].frames)
                shaped_bytes = (
                    moved.bytes - acknowledgement_bytes(moved) if self._acknowledgements_apart else moved.bytes
                )
                self._note(name, shaped_bytes, read_s - before_s)
            self._sampled_s.append((begun_s + read_s) / 2)
            self._total_bytes.append(sum(count.bytes for count in now.values()))
            before_s, self._last = begun_s, now

    def _timed(self) -> tuple[float, dict[str, PortCount], float]:
        """`read`, and when it began and ended."""
        return time.monotonic(), self.read(), time.monotonic()

    def watched(self, at_s: float) -> bool:
        """Whether a time of CLOCK_MONOTONIC lies between two samples."""
        return bool(self._sampled_s) and self._sampled_s[0] <= at_s <= self._sampled_s[-1]

    def carried_bytes(self, from_s: float, to_s: float) -> float | None:
        """Bytes of all links together between two times of CLOCK_MONOTONIC, None unless both were watched.

        It goes through all samples.
        """
        if not (self.watched(from_s) and self.watched(to_s)):
            return None
        to_bytes, from_bytes = np.interp((to_s, from_s), self._sampled_s, self._total_bytes)
        return float(to_bytes - from_bytes)

    async def until_still(self) -> None:
        """Return when no frame moves any more, or at the deadline (a slow port may take long to drain its queue)."""
        until_s = time.monotonic() + STILL_DEADLINE_S
        before = None
        while (now := self.read()) != before and time.monotonic() < until_s:
            before = now
            await asyncio.sleep(STILL_S)

    def evidence(self) -> dict[str, Any]:
        """The summary, in emulated bytes; to be called after `until_still`.

        - `port_overshoot`: the most bytes of a port in a window over what its shaper allows, and
          `port_overshoot_at`, its link.
        - `saturated_rate`: the rate in the busy periods of all ports over the shaper's rate, the 90th percentile of
          `saturated_windows` windows, since a port that is nearly full is not held by its shaper.
        - `link_bytes`: bytes of each link. `delivered_bytes`: bytes that reached hosts.
        - `lost_frames`: frames that entered the fabric and did not leave it; full queues dropped `queue_drops` of them.
        - `softnet_squeezes`, `softnet_drops`: times that the kernel's packet budget ran out, and packets it dropped.
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
        rates = sorted(self._saturated.elements())
        squeezes, drops = (b - a for a, b in zip(self._softnet, softnet(), strict=True))
        return {
            "link_bytes": {name: count.bytes for name, count in moved.items()},
            "port_overshoot": self._overshoot[0],
            "port_overshoot_at": self._overshoot[1],
            "saturated_windows": len(rates),
            "saturated_rate": rates[len(rates) * 9 // 10] if rates else None,
            "delivered_bytes": sum(count.bytes for count in out),
            "delivered_frames": sum(count.frames for count in out),
            "lost_frames": sum(count.frames for count in into) - sum(count.frames for count in out),
            "queue_drops": dropped(_queues()) - self._dropped,
            "softnet_squeezes": squeezes,
            "softnet_drops": drops,
        }

    def _note(self, name: str, moved_bytes: float, window_s: float) -> None:
        shape = self._shapes[name]
        drained_bytes = shape.rate_bps / 8 * window_s
        allowed_bytes = drained_bytes + shape.burst_bytes + FRAME_B  # HTB sends a frame while any of its burst is left
        self._overshoot = max(self._overshoot, (moved_bytes / allowed_bytes, name))
        full = moved_bytes / drained_bytes
        if full >= BUSY:
            self._busy[name].append(full)
        else:
            self._end_busy_period(name)

    def _end_busy_period(self, name: str) -> None:
        if len(self._busy[name]) >= BUSY_WINDOWS:
            self._saturated.update(round(full, 4) for full in self._busy[name][1:-1])
        self._busy[name].clear()


def acknowledgement_bytes(moved: PortCount) -> float:
    """How many of some bytes are acknowledgements without data, where all other frames are full."""
    return ACKNOWLEDGEMENT_B * max(FRAME_B * moved.frames - moved.bytes, 0) / (FRAME_B - ACKNOWLEDGEMENT_B)


def parse_devices(text: str) -> Mapping[str, tuple[PortCount, PortCount]]:
    """Sent and received of every interface in /proc/net/dev (proc_pid_net(5))."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, numbers = line.partition(":")
        fields = [int(word) for word in numbers.split()]
        found[name.strip()] = PortCount(fields[8], fields[9]), PortCount(fields[0], fields[1])
    return found


def dropped(queues: str) -> int:
    """Frames dropped by the shapers of all ports, in the output of `tc -s -j qdisc show` (tc(8))."""
    return sum(found["drops"] for found in json.loads(queues) if found["kind"] == "htb")


def _queues() -> str:
    return run("tc", "-s", "-j", "qdisc", "show")


def softnet() -> tuple[int, int]:
    """Times that the kernel's budget for received packets ran out, and packets it dropped, over all cores."""
    rows = [[int(word, 16) for word in line.split()] for line in SOFTNET.read_text().splitlines()]
    return sum(row[2] for row in rows), sum(row[1] for row in rows)
