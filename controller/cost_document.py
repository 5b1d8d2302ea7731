"""The `netkv.cost/v1` document that an operator's controller publishes to schedulers (netkv.cost.v1.schema.json).

Pure: state in, text out. Capacities and tiers are in the real system's units, bytes are emulated bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from controller.config import ControllerConfig
from controller.counters import LinkCounters
from controller.polls import PollStatistics
from topologies import HOPS_OF_TIER, Fabric

SCHEMA = "netkv.cost/v1"


@dataclass(frozen=True)
class Instant:
    """One instant on two clocks: CLOCK_MONOTONIC for readers on this machine, Unix time for others."""

    monotonic_s: float
    unix_s: float


def cost_document(
    fabric: Fabric,
    config: ControllerConfig,
    counters: LinkCounters,
    *,
    programmed: set[int],
    packet_ins: int,
    sequence: int,
    now: Instant,
    polls: PollStatistics,
    cut: frozenset[int] = frozenset(),
) -> dict[str, Any]:
    """The document as plain data.

    `sampled_*` is the request time of its oldest sample, so the document never appears newer than its data; one switch
    that does not answer stops it. It is null, and `complete` false, until every link has been measured once.
    """
    oldest_s = counters.oldest_s
    missing = [switch.name for switch in fabric.switches if switch.dpid not in programmed]
    return {
        "schema": SCHEMA,
        "sequence": sequence,
        "sampled_monotonic_s": oldest_s,
        "sampled_unix_s": None if oldest_s is None else round(now.unix_s - (now.monotonic_s - oldest_s), 6),
        "poll_s": config.poll_s,
        "rate_scale": config.rate_scale,
        "switches_expected": len(fabric.switches),
        "switches_programmed": len(fabric.switches) - len(missing),
        "switches_missing": missing,
        "links_down": [link.name for link in fabric.links if link.index in cut],
        "packet_ins": packet_ins,
        "poll_round_trip_ms": polls.round_trip_ms(),
        "polls_answered": polls.total_answered,
        "polls_missed": polls.total_missed,
        "complete": oldest_s is not None,
        "links": {
            link.name: {
                "utilisation": None if state.utilisation is None else round(state.utilisation, 5),
                "capacity_bps": link.capacity_bps,
                "bytes": state.carried_bytes,
            }
            for link, state in zip(fabric.links, counters.links, strict=True)
        },
        "tiers": [
            {
                "tier": tier,
                "bandwidth_bps": fabric.spec.tier_rate_bps(tier),
                "latency_s": fabric.spec.tier_latency_s(tier),
            }
            for tier in range(len(HOPS_OF_TIER))
        ],
    }


def one_line(document: dict[str, Any]) -> bytes:
    """The document as sent over the socket: one line of JSON with its line feed."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode() + b"\n"
