"""The calibration transfer: one blob on an idle path before and after a run, against what its links should give.

A machine that cannot carry the rates of its specification shows it here, whatever the run itself asked of it.
"""

from __future__ import annotations

import asyncio

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


class Calibration:
    """Sends blobs from the first prefill instance to the nearest decode instance outside its server.

    `on_event` is to be given every event of a request from `CALIBRATION_ID` on.
    """

    def __init__(self, up: FabricUp, roles: Roles, stripes: int, tell: Tell) -> None:
        self._up = up
        self._stripes = stripes
        self._tell = tell
        self._pair = calibration_pair(up, roles)
        self._sent = 0
        self._started_s = 0.0
        self._ended_s = 0.0
        self._heard: set[str] = set()
        self._over = asyncio.Event()

    async def measure(self) -> float:
        """Payload rate of the best of a few blobs over what the path's links should give; 0 when none arrives."""
        best = 0.0
        for _ in range(ATTEMPTS):
            best = max(best, await self._send())
            if best >= GOOD:
                break
        return best

    def on_event(self, event: Event) -> None:
        """Note when the blob left and when it was in; whatever else the workers say of it matters to nobody."""
        if event["request_id"] != CALIBRATION_ID + self._sent:
            return
        if event["event"] == "transferred":
            self._started_s = event["started_s"]
        elif event["event"] == "received":
            self._ended_s = event["at_s"]
        self._heard.add(event["event"])
        if {"transferred", "received", "finished"} <= self._heard or "transfer_failed" in self._heard:
            self._over.set()

    async def _send(self) -> float:
        source, target = self._pair
        rate_bps = min(self._up.fabric.links[link].capacity_bps for link in self._up.fabric.paths(source, target)[0])
        payload_Bps = rate_bps / self._up.link_divisor / 8 * PAYLOAD_OF_WIRE
        size_bytes = max(min(round(payload_Bps * IDEAL_S), MOST_BYTES), 1)
        self._sent += 1
        self._heard.clear()
        self._over.clear()
        moved = {"request_id": CALIBRATION_ID + self._sent, "bytes": size_bytes, "stripes": self._stripes}
        self._tell("decode", target, {"do": "expect", **moved, "context_tokens": 1, "output_tokens": 1})
        bound = {"address": [self._up.address(target), DECODE_PORT], "deadline_s": DEADLINE_S}
        self._tell("prefill", source, {"do": "transfer", **moved, **bound})
        try:
            await asyncio.wait_for(self._over.wait(), DEADLINE_S + 1)
        except TimeoutError:
            return 0.0
        taken_s = self._ended_s - self._started_s
        return 0.0 if "transfer_failed" in self._heard else size_bytes / payload_Bps / taken_s


def calibration_pair(up: FabricUp, roles: Roles) -> tuple[int, int]:
    """A prefill and a decode instance: on two servers where there are such, as near as can be."""
    pairs = [(p, d) for p in roles.prefill for d in roles.decode if p != d]
    tier_of = {pair: up.fabric.tier(*pair) for pair in pairs}
    return min(pairs, key=lambda pair: (tier_of[pair] == 0, tier_of[pair], pair))
