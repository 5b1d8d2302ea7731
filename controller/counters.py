"""Port counters to link utilisation: pure bookkeeping, every instant given by the caller.

A directed link is measured where a switch transmits onto it (tx_bytes); a link from an instance to its server switch,
whose transmitter is no switch, where it is received (rx_bytes).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from topologies import Fabric

COUNTER_BITS = (32, 64)
"""OpenFlow 1.3 counts bytes in 64 bits; a datapath that takes them from an old kernel interface wraps at 32."""

UTILISATION_CEILING = 1.05
"""A shaper lets through its rate and a bucket of ten frames. More than this is an error of the arrival stamps."""

SHORTEST_INTERVAL_OF_POLL = 0.5
"""Replies closer than this part of a poll are one sample: a delayed reply would make the next one look like a burst."""


@dataclass(frozen=True)
class PortCounters:
    """Cumulative bytes of one switch port."""

    port: int
    rx_bytes: int
    tx_bytes: int


@dataclass
class LinkState:
    """What is known of one directed link. `utilisation` and `sampled_s` are None until it has been measured."""

    capacity_bps: float
    utilisation: float | None = None
    sampled_s: float | None = None
    carried_bytes: int = 0
    last_bytes: int | None = None
    interval_bytes: int = 0
    interval_start_s: float | None = None


class LinkCounters:
    """Utilisation and bytes carried of every link of a fabric, in the order of `fabric.links`.

    `rate_scale`: real bit/s for one emulated bit/s; counters are emulated bytes. `poll_s`: the nominal interval.
    `ewma_s`: time constant of the exponentially weighted average, 0 for the last sample as it is.
    """

    def __init__(self, fabric: Fabric, *, rate_scale: float, poll_s: float, ewma_s: float = 0.0) -> None:
        self.links = [LinkState(link.capacity_bps / rate_scale) for link in fabric.links]
        self._shortest_s = SHORTEST_INTERVAL_OF_POLL * poll_s
        self._ewma_s = ewma_s
        self._transmits: dict[int, dict[int, LinkState]] = {switch.dpid: {} for switch in fabric.switches}
        self._receives: dict[int, dict[int, LinkState]] = {switch.dpid: {} for switch in fabric.switches}
        for link, state in zip(fabric.links, self.links, strict=True):
            source = fabric.switch_by_name.get(link.source)
            if source is not None:
                self._transmits[source.dpid][link.source_port] = state
            else:
                self._receives[fabric.switch_by_name[link.target].dpid][link.target_port] = state

    def record(self, dpid: int, ports: Iterable[PortCounters], *, requested_s: float, arrived_s: float) -> None:
        """Take one reply. Rates are over the time between arrivals; the sample is as old as its request.

        A switch or port that the fabric does not have (a bridge's own port, say) is ignored.
        """
        transmits, receives = self._transmits.get(dpid), self._receives.get(dpid, {})
        if transmits is None:
            return
        for counters in ports:
            if (link := transmits.get(counters.port)) is not None:
                self._take(link, counters.tx_bytes, requested_s, arrived_s)
            if (link := receives.get(counters.port)) is not None:
                self._take(link, counters.rx_bytes, requested_s, arrived_s)

    def disconnected(self, dpid: int) -> None:
        """The switch is gone: its links keep their last sample, getting older, and the next reply starts afresh."""
        for link in (*self._transmits.get(dpid, {}).values(), *self._receives.get(dpid, {}).values()):
            link.interval_start_s = None

    @property
    def oldest_s(self) -> float | None:
        """Time of the oldest sample of all links; None while any link has none."""
        oldest = math.inf
        for link in self.links:
            if link.sampled_s is None:
                return None
            oldest = min(oldest, link.sampled_s)
        return oldest

    def _take(self, link: LinkState, counter: int, requested_s: float, arrived_s: float) -> None:
        """One reading of one link's counter."""
        start_s, last_bytes = link.interval_start_s, link.last_bytes
        elapsed_s = arrived_s - start_s if start_s is not None else None
        if elapsed_s is not None and elapsed_s < 0:
            return  # delivered out of order
        link.last_bytes = counter
        if last_bytes is not None:
            carried, restarted = _carried(last_bytes, counter, link.capacity_bps, elapsed_s)
            link.carried_bytes += carried
            link.interval_bytes += carried
            if restarted:
                elapsed_s = None
        if elapsed_s is None or last_bytes is None:
            link.interval_start_s, link.interval_bytes = arrived_s, 0
        elif elapsed_s >= self._shortest_s and elapsed_s > 0:
            sample = min(link.interval_bytes * 8 / elapsed_s / link.capacity_bps, UTILISATION_CEILING)
            link.utilisation = self._smoothed(link.utilisation, sample, elapsed_s)
            link.sampled_s = requested_s
            link.interval_start_s, link.interval_bytes = arrived_s, 0

    def _smoothed(self, before: float | None, sample: float, elapsed_s: float) -> float:
        if before is None or self._ewma_s == 0:
            return sample
        return before + (sample - before) * -math.expm1(-elapsed_s / self._ewma_s)


def _carried(before: int, after: int, capacity_bps: float, elapsed_s: float | None) -> tuple[int, bool]:
    """Bytes between two readings, and whether the counter started again from zero in between.

    A smaller reading is a wrap if the link could have carried the difference in the time, and a restart otherwise.
    """
    if after >= before:
        return after - before, False
    if elapsed_s is not None:
        for bits in COUNTER_BITS:
            wrapped = after - before + 2**bits
            if before < 2**bits and wrapped * 8 <= 2 * UTILISATION_CEILING * capacity_bps * elapsed_s:
                return wrapped, False
    return after, True
