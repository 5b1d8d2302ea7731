"""Port counters to link utilisation: pure bookkeeping, every instant given by the caller.

A directed link is measured where a switch transmits onto it (tx_bytes); a link from an instance to its server switch,
whose transmitter is no switch, where it is received (rx_bytes). Rates are over the switch's own clock, the `duration`
in its replies: with both cores of the test machine busy, a saturated link's samples (poll 0.1 s)
spread 0.08 around their mean by that clock and 0.15 by the arrival of the replies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from topologies import Fabric

COUNTER_BITS = (32, 64)
"""OpenFlow 1.3 counts bytes in 64 bits; a datapath that takes them from an old kernel interface wraps at 32."""

UTILISATION_CEILING = 1.05
"""A shaper passes its rate and an HTB burst of ten frames; a higher measured value is a clock error."""

SHORTEST_INTERVAL_OF_POLL = 0.5
"""Readings closer than this share of a poll interval are one sample: the one after a delayed reading would look like a
burst."""


class PortCounters(NamedTuple):
    """Cumulative bytes of one switch port, and for how long it has been up (OpenFlow's duration; constant if unknown).

    That clock restarts with the switch's process. The byte counters may not: they are often the kernel interface's.
    """

    port: int
    rx_bytes: int
    tx_bytes: int
    alive_s: float


class CounterReading(NamedTuple):
    """One link's byte counter and when it was read, by the controller's clock and by the port's."""

    counter_bytes: int
    arrived_s: float
    alive_s: float

    def elapsed_s(self, since: CounterReading) -> float:
        """Time since another reading, by the port's clock where that runs, else by arrival."""
        alive_s = self.alive_s - since.alive_s
        return alive_s if alive_s > 0 else self.arrived_s - since.arrived_s


@dataclass
class LinkState:
    """State of one directed link. `utilisation` and `sampled_s` are None until the link has been measured."""

    capacity_bps: float
    utilisation: float | None = None
    sampled_s: float | None = None
    carried_bytes: int = 0
    last: CounterReading | None = None
    interval_start: CounterReading | None = None
    interval_bytes: int = 0


class LinkCounters:
    """Utilisation and bytes carried of every link of a fabric, in the order of `fabric.links`.

    `rate_scale`: real bit/s for one emulated bit/s; counters are emulated bytes. `poll_s`: the nominal interval.
    """

    def __init__(self, fabric: Fabric, *, rate_scale: float, poll_s: float) -> None:
        self.links = [LinkState(link.capacity_bps / rate_scale) for link in fabric.links]
        self._shortest_s = SHORTEST_INTERVAL_OF_POLL * poll_s
        self._transmits: dict[int, dict[int, LinkState]] = {switch.dpid: {} for switch in fabric.switches}
        self._receives: dict[int, dict[int, LinkState]] = {switch.dpid: {} for switch in fabric.switches}
        for link, state in zip(fabric.links, self.links, strict=True):
            source = fabric.switch_by_name.get(link.source)
            if source is not None:
                self._transmits[source.dpid][link.source_port] = state
            else:
                self._receives[fabric.switch_by_name[link.target].dpid][link.target_port] = state

    def record(self, dpid: int, ports: Iterable[PortCounters], *, requested_s: float, arrived_s: float) -> None:
        """Record one reply. The time of a sample is that of its request: the counters were read after it.

        A switch or port that the fabric does not have (a bridge's own port, say) is ignored.
        """
        transmits, receives = self._transmits.get(dpid), self._receives.get(dpid, {})
        if transmits is None:
            return
        for counters in ports:
            if (link := transmits.get(counters.port)) is not None:
                self._take(link, CounterReading(counters.tx_bytes, arrived_s, counters.alive_s), requested_s)
            if (link := receives.get(counters.port)) is not None:
                self._take(link, CounterReading(counters.rx_bytes, arrived_s, counters.alive_s), requested_s)

    def disconnected(self, dpid: int) -> None:
        """The switch has disconnected: its links keep their last sample, and the next reply starts a new interval."""
        for link in (*self._transmits.get(dpid, {}).values(), *self._receives.get(dpid, {}).values()):
            link.interval_start = None

    @property
    def oldest_s(self) -> float | None:
        """Time of the oldest sample of all links; None while any link has none."""
        oldest = math.inf
        for link in self.links:
            if link.sampled_s is None:
                return None
            oldest = min(oldest, link.sampled_s)
        return oldest

    def _take(self, link: LinkState, reading: CounterReading, requested_s: float) -> None:
        if link.last is not None:
            if reading.arrived_s < link.last.arrived_s:
                return  # out of order
            carried = _carried(link.last, reading, link.capacity_bps)
            if carried is None:  # the counter restarted: its bytes were carried, in an unknown time
                carried = reading.counter_bytes
                link.interval_start = None
            link.carried_bytes += carried
            link.interval_bytes += carried
        link.last = reading
        if link.interval_start is None:
            link.interval_start, link.interval_bytes = reading, 0
            return
        elapsed_s = reading.elapsed_s(link.interval_start)
        if elapsed_s >= self._shortest_s:
            link.utilisation = min(link.interval_bytes * 8 / elapsed_s / link.capacity_bps, UTILISATION_CEILING)
            link.sampled_s = requested_s
            link.interval_start, link.interval_bytes = reading, 0


def _carried(before: CounterReading, after: CounterReading, capacity_bps: float) -> int | None:
    """Bytes between two readings; None when the counter restarted from zero in between.

    A smaller counter is a wrap if the link could have carried the difference in the time, and a restart otherwise.
    """
    difference = after.counter_bytes - before.counter_bytes
    if difference >= 0:
        return difference
    most_bytes = 2 * UTILISATION_CEILING * capacity_bps / 8 * after.elapsed_s(before)
    for bits in COUNTER_BITS:
        wrapped = difference + (1 << bits)
        if 0 <= wrapped <= most_bytes and before.counter_bytes < 1 << bits:
            return wrapped
    return None
