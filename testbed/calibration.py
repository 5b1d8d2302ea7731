"""Calibration transfers on an idle fabric: the rate of blobs over the nominal rate of their path, and round trips.

They show whether the machine can carry the link rates of the specification, and how far the emulation's own delays are
from those of a fabric, independent of the run's own load.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from testbed.fabric_up import FabricUp
from testbed.worker_pool import DECODE_PORT, Event, Tell
from topologies import Roles

CALIBRATION_ID = 1 << 40
"""Request ids from this number on are calibration transfers: no workload has so many requests."""

IDEAL_S = 0.4
MOST_BYTES = 20_000_000
"""A blob takes `IDEAL_S` on its path and is no larger than this. Set-up and slow start take 5 to 40 ms of it."""

DEADLINE_S = 8.0
GOOD = 0.9
ATTEMPTS = 3
"""Other work may interrupt a transfer: one below `GOOD` is repeated, and the best one counts."""

PINGS = 5
PING_BYTES = 64
"""Blobs of so little take next to no time but what every transfer takes beside its bytes."""

TCP_PAYLOAD_SHARE = 1448 / 1514
"""Share of payload in a full Ethernet frame of TCP with timestamps (RFC 7323), as port counters count it."""

Pair = tuple[int, int]
OVER = {"transferred", "received", "finished"}


class Delivered(NamedTuple):
    """Blobs sent together: seconds from the first connection to the last byte, and the least round trip of their
    connections, seconds, since each was opened; both infinite when one of them failed."""

    duration_s: float
    least_round_trip_s: float


FAILED = Delivered(math.inf, math.inf)


class BlobSender:
    """Sends blobs from prefill to decode instances, outside any workload.

    `on_event` must get every event with a request id from `CALIBRATION_ID` on.
    """

    def __init__(self, up: FabricUp, stripes: int, tell: Tell) -> None:
        self._up = up
        self._stripes = stripes
        self._tell = tell
        self._sent = 0
        self._events_of: dict[int, dict[str, Event]] = {}
        self._over = asyncio.Event()

    async def send(self, pairs: Sequence[Pair], size_bytes: int) -> Delivered:
        """One blob for each pair, all at once."""
        self._events_of = {CALIBRATION_ID + self._sent + number: {} for number in range(len(pairs))}
        self._sent += len(pairs)
        self._over.clear()
        for request_id, (source, target) in zip(self._events_of, pairs, strict=True):
            moved = {"request_id": request_id, "bytes": size_bytes, "stripes": self._stripes}
            self._tell("decode", target, {"do": "expect", **moved, "context_tokens": 1, "output_tokens": 1})
            bound = {"address": [self._up.address(target), DECODE_PORT], "deadline_s": DEADLINE_S}
            self._tell("prefill", source, {"do": "transfer", **moved, **bound})
        try:
            await asyncio.wait_for(self._over.wait(), DEADLINE_S + 1)
        except TimeoutError:
            return FAILED
        events = self._events_of.values()
        if any("transfer_failed" in events_seen for events_seen in events):
            return FAILED
        started_s: float = min(events_seen["transferred"]["started_s"] for events_seen in events)
        ended_s: float = max(events_seen["received"]["at_s"] for events_seen in events)
        least_s: float = min(events_seen["transferred"]["least_round_trip_s"] for events_seen in events)
        return Delivered(ended_s - started_s, least_s)

    def on_event(self, event: Event) -> None:
        """Note an event of the current blobs; events of earlier ones are ignored."""
        events_seen = self._events_of.get(event["request_id"])
        if events_seen is None:
            return
        events_seen[event["event"]] = event
        if all(
            events_seen.keys() >= OVER or "transfer_failed" in events_seen for events_seen in self._events_of.values()
        ):
            self._over.set()


class Calibration:
    """Blobs between prefill and decode instances that are alone on their path; the nearest on different servers tell
    the rate."""

    def __init__(self, up: FabricUp, roles: Roles, stripes: int, tell: Tell) -> None:
        self._blobs = BlobSender(up, stripes, tell)
        self._pair_of = nearest_pairs(up, roles)
        self._pair = self._pair_of[min(self._pair_of, key=lambda tier: (tier == 0, tier))]
        self._dilation = up.spec.time_dilation
        rate_bps = min(up.fabric.links[link].capacity_bps for link in up.fabric.paths(*self._pair)[0])
        self._payload_Bps = rate_bps / up.link_divisor / 8 * TCP_PAYLOAD_SHARE
        self.on_event = self._blobs.on_event

    async def measure(self) -> float:
        """Payload rate of the best of `ATTEMPTS` blobs over the nominal rate of the path; 0 when none arrives."""
        size_bytes = max(min(round(self._payload_Bps * IDEAL_S), MOST_BYTES), 1)
        best = 0.0
        for _ in range(ATTEMPTS):
            took_s = (await self._blobs.send([self._pair], size_bytes)).duration_s
            best = max(best, size_bytes / self._payload_Bps / took_s)
            if best >= GOOD:
                break
        return best

    async def idle(self) -> dict[str, dict[str, float]]:
        """By tier, milliseconds of the real system, of `PINGS` blobs of one small frame a stripe: `idle_round_trip_ms`,
        the least, and `idle_transfer_ms`, what the middle one took from the first connection to the last byte."""
        round_trip_ms, transfer_ms = {}, {}
        for tier, pair in sorted(self._pair_of.items()):
            pings = [await self._blobs.send([pair], PING_BYTES) for _ in range(PINGS)]
            if all(math.isfinite(ping.duration_s) for ping in pings):
                real_ms = 1e3 / self._dilation
                round_trip_ms[str(tier)] = min(ping.least_round_trip_s for ping in pings) * real_ms
                transfer_ms[str(tier)] = median(ping.duration_s for ping in pings) * real_ms
        return {"idle_round_trip_ms": round_trip_ms, "idle_transfer_ms": transfer_ms}


def nearest_pairs(up: FabricUp, roles: Roles) -> dict[int, Pair]:
    """A prefill and a decode instance of every tier at which there are two."""
    return {up.fabric.tier(p, d): (p, d) for p in reversed(roles.prefill) for d in reversed(roles.decode) if p != d}
