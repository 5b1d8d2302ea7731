"""Calibration transfers: blobs on an idle fabric, against what their links should give.

A machine that cannot carry the rates of its specification shows it here, whatever the run itself asked of it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from testbed.fabric_up import FabricUp
from testbed.worker_pool import DECODE_PORT, Event, Tell
from topologies import Roles

CALIBRATION_ID = 1 << 40
"""Requests from this number on are ours: no workload has so many."""

IDEAL_S = 0.4
MOST_BYTES = 20_000_000
"""A blob that takes `IDEAL_S` on its path, no larger than this: set-up and slow start cost 5 to 40 ms of it."""

DEADLINE_S = 8.0
GOOD = 0.9
ATTEMPTS = 3
"""Other work takes the processor at times: a transfer below `GOOD` is repeated, and the best counts."""

PAYLOAD_OF_WIRE = 1448 / 1514
"""Of a full frame, what TCP with timestamps delivers (RFC 7323)."""

Pair = tuple[int, int]
OVER = {"transferred", "received", "finished"}


class BlobSender:
    """Sends blobs from prefill to decode instances, outside of any workload.

    `on_event` is to be given every event of a request from `CALIBRATION_ID` on.
    """

    def __init__(self, up: FabricUp, stripes: int, tell: Tell) -> None:
        self._up = up
        self._stripes = stripes
        self._tell = tell
        self._sent = 0
        self._heard: dict[int, dict[str, Event]] = {}
        self._over = asyncio.Event()

    async def send(self, pairs: Sequence[Pair], size_bytes: int) -> float:
        """Seconds from the first connection to the last byte of one blob a pair, all at once; inf when any fails."""
        self._heard = {CALIBRATION_ID + self._sent + number: {} for number in range(len(pairs))}
        self._sent += len(pairs)
        self._over.clear()
        for request_id, (source, target) in zip(self._heard, pairs, strict=True):
            moved = {"request_id": request_id, "bytes": size_bytes, "stripes": self._stripes}
            self._tell("decode", target, {"do": "expect", **moved, "context_tokens": 1, "output_tokens": 1})
            bound = {"address": [self._up.address(target), DECODE_PORT], "deadline_s": DEADLINE_S}
            self._tell("prefill", source, {"do": "transfer", **moved, **bound})
        try:
            await asyncio.wait_for(self._over.wait(), DEADLINE_S + 1)
        except TimeoutError:
            return math.inf
        events = self._heard.values()
        if any("transfer_failed" in heard for heard in events):
            return math.inf
        started_s: float = min(heard["transferred"]["started_s"] for heard in events)
        ended_s: float = max(heard["received"]["at_s"] for heard in events)
        return ended_s - started_s

    def on_event(self, event: Event) -> None:
        """Note what the workers say of the blobs on their way; of earlier ones nothing matters any more."""
        heard = self._heard.get(event["request_id"])
        if heard is None:
            return
        heard[event["event"]] = event
        if all(heard.keys() >= OVER or "transfer_failed" in heard for heard in self._heard.values()):
            self._over.set()


class Calibration:
    """BlobSender from the first prefill instance to the nearest decode instance outside its server, alone on their path."""

    def __init__(self, up: FabricUp, roles: Roles, stripes: int, tell: Tell) -> None:
        self._blobs = BlobSender(up, stripes, tell)
        self._pair = calibration_pair(up, roles)
        rate_bps = min(up.fabric.links[link].capacity_bps for link in up.fabric.paths(*self._pair)[0])
        self._payload_Bps = rate_bps / up.link_divisor / 8 * PAYLOAD_OF_WIRE
        self.on_event = self._blobs.on_event

    async def measure(self) -> float:
        """Payload rate of the best of a few blobs over what the path's links should give; 0 when none arrives."""
        size_bytes = max(min(round(self._payload_Bps * IDEAL_S), MOST_BYTES), 1)
        best = 0.0
        for _ in range(ATTEMPTS):
            best = max(best, size_bytes / self._payload_Bps / await self._blobs.send([self._pair], size_bytes))
            if best >= GOOD:
                break
        return best


def calibration_pair(up: FabricUp, roles: Roles) -> Pair:
    """A prefill and a decode instance: on two servers where there are such, as near as can be."""
    pairs = [(p, d) for p in roles.prefill for d in roles.decode if p != d]
    tier_of = {pair: up.fabric.tier(*pair) for pair in pairs}
    return min(pairs, key=lambda pair: (tier_of[pair] == 0, tier_of[pair], pair))
