"""The network mode `closed_form`: bytes over the tier bandwidth left when the transfer starts.

What a purely analytic model claims, for comparison with the fluid one. Its rules are ours: a connection gets an
even share of its tier's nominal bandwidth among all connections at the busier of its two ends (the server's NIC, or the
instance's NVLink within a server); a transfer keeps the share that it had at its start; nothing between the ends is
contended. The public model nearest to it is BLIS inference-sim's: 25 GB/s + 50 us, one global share fixed at the start.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from scenario import BackgroundFlow, path_shares
from simulator.transport import Delivery, Floats
from topologies import Fabric

End = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Course:
    """One owner's connections: their two ends, their tier's bandwidth, and the share of it on each link, [links]."""

    ends: tuple[End, End]
    connections: int
    tier_Bps: float
    links: Floats
    most_Bps: float = np.inf

    def rate_Bps(self, connections_at: Counter[End]) -> float:
        """An even share among the connections at the busier end, these among them; a paced flow's rate at most."""
        return min(self.tier_Bps * self.connections / max(connections_at[end] for end in self.ends), self.most_Bps)


class ClosedFormTransport:
    """Transfers of a rate fixed at their start; background flows share evenly among themselves."""

    def __init__(self, fabric: Fabric, start_s: float = 0.0) -> None:
        self._fabric = fabric
        links = len(fabric.links)
        self._capacity_Bps = np.array([link.capacity_bps / 8 for link in fabric.links])
        self._all: Counter[End] = Counter()
        self._foreign: Counter[End] = Counter()
        self._transfers: dict[int, tuple[_Course, float]] = {}
        self._capped: dict[int, tuple[float, float]] = {}  # by request: when it started, and its bytes
        self._background: dict[int, _Course] = {}
        self._shares: dict[tuple[int, int], Floats] = {}
        self._due: list[tuple[float, int]] = []
        self._clock_s = self._settled_s = start_s
        self._own_Bps = np.zeros(links)
        self._foreign_Bps = np.zeros(links)
        self._foreign_total_Bps = 0.0
        self._carried_B = np.zeros(links)
        self.background_B = 0.0
        self.avoided: frozenset[int] = frozenset()

    @property
    def flows(self) -> int:
        return len(self._transfers) + len(self._background)

    def start_transfer(
        self, request_id: int, source: int, target: int, size_B: float, connections: int, most_Bps: float = np.inf
    ) -> None:
        self._settle()
        course = replace(self._course(source, target, connections), most_Bps=most_Bps)
        rate_Bps = self._add(request_id, course)
        if most_Bps < np.inf:
            self._capped[request_id] = self._clock_s, size_B
        else:
            heapq.heappush(self._due, (self._clock_s + size_B / rate_Bps, request_id))

    def uncap(self, request_id: int) -> None:
        if request_id not in self._capped:
            return
        self._settle()
        started_s, size_B = self._capped.pop(request_id)
        course, rate_Bps = self._take_away(request_id)
        left_B = size_B - rate_Bps * (self._clock_s - started_s)
        rate_Bps = self._add(request_id, replace(course, most_Bps=np.inf))
        heapq.heappush(self._due, (self._clock_s + left_B / rate_Bps, request_id))

    def start_background(self, flow: BackgroundFlow) -> None:
        self._settle()
        course = self._course(flow.source, flow.target, flow.connections)
        if flow.rate_bps is not None:
            course = replace(course, most_Bps=flow.rate_bps / 8)
        self._background[flow.flow_id] = course
        self._recount(course, course.connections)

    def stop_background(self, flow: BackgroundFlow) -> None:
        self._settle()
        course = self._background.pop(flow.flow_id)
        self._recount(course, -course.connections)

    def next_delivery_s(self) -> float:
        return self._due[0][0] if self._due else np.inf

    def advance(self, to_s: float) -> list[Delivery]:
        delivered = []
        while self._due and self._due[0][0] <= to_s:
            self._clock_s, request_id = heapq.heappop(self._due)
            self._settle()
            self._take_away(request_id)
            delivered.append(Delivery(request_id, self._clock_s))
        self._clock_s = to_s
        return delivered

    def link_rate_Bps(self) -> Floats:
        """What each link carries, cut at its capacity: the shares know of no link between the ends."""
        rate_Bps: Floats = np.minimum(self._own_Bps + self._foreign_Bps, self._capacity_Bps)
        return rate_Bps

    def link_carried_B(self) -> Floats:
        self._settle()
        return self._carried_B.copy()

    def foreseen_B(self, at_s: float) -> Floats:
        """Not settled, which would round the sum in other places."""
        seen_B: Floats = self._carried_B + (self._own_Bps + self._foreign_Bps) * (at_s - self._settled_s)
        return seen_B

    def _add(self, request_id: int, course: _Course) -> float:
        """Let a transfer take its share; the rate that it gets, bytes/s."""
        _count(self._all, course, course.connections)
        rate_Bps = course.rate_Bps(self._all)
        self._transfers[request_id] = course, rate_Bps
        self._own_Bps += rate_Bps * course.links
        return rate_Bps

    def _take_away(self, request_id: int) -> tuple[_Course, float]:
        course, rate_Bps = self._transfers.pop(request_id)
        _count(self._all, course, -course.connections)
        self._own_Bps -= rate_Bps * course.links
        if not self._transfers:  # no drift from adding and taking away
            self._own_Bps[:] = 0
        return course, rate_Bps

    def _recount(self, course: _Course, connections: int) -> None:
        _count(self._all, course, connections)
        _count(self._foreign, course, connections)
        self._foreign_Bps[:] = 0
        self._foreign_total_Bps = 0.0
        for other in self._background.values():
            rate_Bps = other.rate_Bps(self._foreign)
            self._foreign_Bps += rate_Bps * other.links
            self._foreign_total_Bps += rate_Bps

    def _settle(self) -> None:
        elapsed_s = self._clock_s - self._settled_s
        self._carried_B += (self._own_Bps + self._foreign_Bps) * elapsed_s
        self.background_B += self._foreign_total_Bps * elapsed_s
        self._settled_s = self._clock_s

    def _course(self, source: int, target: int, connections: int) -> _Course:
        tier = self._fabric.tier(source, target)
        spec = self._fabric.spec
        if tier == 0:
            ends = ("out of instance", source), ("into instance", target)
        else:
            per_server = spec.instances_per_server
            ends = ("out of server", source // per_server), ("into server", target // per_server)
        return _Course(ends, connections, spec.tier_rate_bps(tier) / 8, self._shares_of(source, target))

    def _shares_of(self, source: int, target: int) -> Floats:
        key = (source, target)
        if key not in self._shares:
            self._shares[key] = path_shares(self._fabric, source, target)
        return self._shares[key]


def _count(connections_at: Counter[End], course: _Course, connections: int) -> None:
    for end in course.ends:
        connections_at[end] += connections
