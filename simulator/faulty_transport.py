"""The fluid transport on a fabric whose links fail, slow down and come back.

A flow on a failed link carries nothing until the controller has noticed (`reroute`); then it takes the path that the
switches' hashes lead it to: the failed path as far as a switch knows another way, then one of those that still reach.
Without any, it waits. When the link is back, it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np

from scenario import BackgroundFlow
from simulator.path_choice import BACKGROUND, TRANSFER, PathChoice
from simulator.transport import FluidTransport
from topologies import Fabric

LEAST_LEFT_B = 1e-6
"""What rounding may take from the last byte of a flow that has not ended."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Connections of one owner on one path. `home`: the path that they take on a whole fabric.

    key: the request or background flow; number: what its connections are hashed by. left_B: bytes still to send when
    it was placed there. most_Bps: of all its connections together.
    """

    owner: int
    number: int
    key: int
    source: int
    target: int
    home: int
    path: int
    connections: int
    left_B: float
    most_Bps: float


class FaultyTransport(FluidTransport):
    """A `FluidTransport` whose links can be cut and slowed down, and whose transfers can be cancelled."""

    def __init__(self, fabric: Fabric, choice: PathChoice, persistent: bool = False, start_s: float = 0.0) -> None:
        super().__init__(fabric, choice, persistent, start_s)
        self._capacity_Bps = [link.capacity_bps / 8 for link in fabric.links]
        self._cut: frozenset[int] = frozenset()
        self._shares: dict[int, float] = {}
        self._parts: dict[int, _Part] = {}  # by flow
        self._stalled: list[_Part] = []

    @property
    def flows(self) -> int:
        return len(self._network.flows)

    @property
    def stalled_requests(self) -> list[int]:
        """The transfers of which a part has no path now."""
        return sorted({part.key for part in self._stalled if part.owner == TRANSFER})

    def home_links(self) -> dict[int, set[int]]:
        """The links that each transfer under way would use on a whole fabric, by request."""
        found: dict[int, set[int]] = {}
        for part in (*self._present(), *self._stalled):
            if part.owner == TRANSFER:
                home = self._fabric.path(part.source, part.target, part.home)
                found.setdefault(part.key, set()).update(home)
        return found

    def set_links(self, cut: frozenset[int], shares: Mapping[int, float]) -> None:
        """Cut these links, and leave others this part of their rate."""
        for link in self._shares.keys() | shares.keys():
            self._network.set_capacity(link, self._capacity_Bps[link] * shares.get(link, 1.0))
        self._cut, self._shares = cut, dict(shares)
        stopped = self._lift(lambda part: self._crosses(part, cut))
        waiting, self._stalled = self._stalled, []
        for part in (*waiting, *stopped):
            self._put(part)

    def reroute(self, cut: frozenset[int]) -> None:
        """The controller knows now that these links are down, and no others: paths are chosen anew."""
        self.avoided = cut
        moved = self._lift(lambda part: self._way(part) != [(part.path, part.connections)])
        waiting, self._stalled = self._stalled, []
        for part in (*waiting, *moved):
            self._place(part)

    def cancel(self, request_id: int) -> None:
        """End a transfer before its last byte; nothing happens where it is over."""
        if self._flows_left.pop(request_id, None) is None:
            return
        self._lift(lambda part: (part.owner, part.key) == (TRANSFER, request_id))
        self._stalled = [part for part in self._stalled if (part.owner, part.key) != (TRANSFER, request_id)]
        if self._persistent is not None:
            self._persistent.give_back(request_id)

    # -- the transport's own contract -------------------------------------------------------------------------------

    def start_transfer(
        self, request_id: int, source: int, target: int, size_B: float, connections: int, most_Bps: float = np.inf
    ) -> None:
        number = request_id if self._persistent is None else self._persistent.take(request_id, source, target)
        dealt = self._choice.deal(TRANSFER, number, connections, self._fabric.path_count(source, target))
        self._flows_left[request_id] = len(dealt)
        for path, count in dealt:
            left_B, part_Bps = size_B * count / connections, most_Bps * count / connections
            self._place(_Part(TRANSFER, number, request_id, source, target, path, path, count, left_B, part_Bps))

    def uncap(self, request_id: int) -> None:
        def of_it(part: _Part) -> bool:
            return (part.owner, part.key) == (TRANSFER, request_id)

        lifted = self._lift(of_it)
        self._stalled = [replace(part, most_Bps=np.inf) if of_it(part) else part for part in self._stalled]
        for part in lifted:
            self._put(replace(part, most_Bps=np.inf))

    def start_background(self, flow: BackgroundFlow) -> None:
        paths = self._fabric.paths(flow.source, flow.target)
        rate_Bps = np.inf if flow.rate_bps is None else flow.rate_bps / 8
        self._background[flow.flow_id] = []
        for path, count in self._choice.deal(BACKGROUND, flow.flow_id, flow.connections, len(paths)):
            named = (BACKGROUND, flow.flow_id, flow.flow_id, flow.source, flow.target)
            self._place(_Part(*named, path, path, count, np.inf, rate_Bps * count / flow.connections))

    def stop_background(self, flow: BackgroundFlow) -> None:
        del self._background[flow.flow_id]
        self._lift(lambda part: (part.owner, part.key) == (BACKGROUND, flow.flow_id))
        self._stalled = [part for part in self._stalled if (part.owner, part.key) != (BACKGROUND, flow.flow_id)]

    # -- placing ----------------------------------------------------------------------------------------------------

    def _place(self, part: _Part) -> None:
        """Put a part on the paths that it takes by what the controller knows; it may become several."""
        ways = self._way(part)
        if part.owner == TRANSFER:
            self._flows_left[part.key] += len(ways) - 1
        for path, count in ways:
            of_all = count / part.connections
            left_B, most_Bps = part.left_B * of_all, part.most_Bps * of_all
            self._put(replace(part, path=path, connections=count, left_B=left_B, most_Bps=most_Bps))

    def _put(self, part: _Part) -> None:
        """Send a part over its path, or let it wait while that is cut."""
        if self._crosses(part, self._cut):
            self._stalled.append(part)
            return
        links = self._fabric.path(part.source, part.target, part.path)
        flow = self._network.add(links, part.left_B, weight=part.connections, cap_Bps=part.most_Bps)
        self._parts[flow] = part
        if part.owner == TRANSFER:
            self._transfer_of[flow] = part.key

    def _lift(self, wanted: Callable[[_Part], bool]) -> list[_Part]:
        """Take parts off their paths, with what is left of them to send."""
        lifted = []
        for flow, part in list(self._present_flows()):
            if wanted(part):
                sent_B = self._network.remove(flow)
                self._transfer_of.pop(flow, None)
                if part.owner == BACKGROUND:
                    self.background_B += sent_B
                del self._parts[flow]
                lifted.append(replace(part, left_B=max(part.left_B - sent_B, LEAST_LEFT_B)))
        return lifted

    def _present(self) -> list[_Part]:
        return [part for _, part in self._present_flows()]

    def _present_flows(self) -> list[tuple[int, _Part]]:
        """The flows in the network; those that have ended are forgotten."""
        self._parts = {flow: self._parts[flow] for flow in self._network.flows}
        return list(self._parts.items())

    def _crosses(self, part: _Part, links: Container[int]) -> bool:
        return any(link in links for link in self._fabric.path(part.source, part.target, part.path))

    def _way(self, part: _Part) -> list[tuple[int, int]]:
        """The paths that a part takes by what the controller knows, and the connections on each.

        A switch with another way up takes it, so the new path leaves the failed one as late as it can. Where no path is
        left, the switches keep the one that they had.
        """
        paths = self._fabric.paths(part.source, part.target)
        home = paths[part.home]
        open_paths = [at for at, path in enumerate(paths) if not self.avoided.intersection(path)]
        if part.home in open_paths or not open_paths:
            return [(part.home, part.connections)]
        shared = {
            at: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(home, paths[at], strict=False)))
            for at in open_paths
        }
        longest = max(shared.values())
        nearest = [at for at in open_paths if shared[at] == longest]
        if part.path in nearest:
            return [(part.path, part.connections)]
        return self._choice.detour(part.owner, part.number, part.home, part.connections, nearest)
