"""How KV transfers and background traffic move: the contract of the network modes, and the fluid one.

A transport names a transfer by its request and a background flow by its own number; connections, paths and rates are
its own business. All times are seconds from t = 0 and must not decrease; a transport's clock begins at `start_s`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from scenario import BackgroundFlow
from simulator.network import FluidNetwork
from simulator.path_choice import BACKGROUND, TRANSFER, PathChoice, PersistentConnections
from topologies import Fabric

Floats = NDArray[np.float64]


class Delivery(NamedTuple):
    """A transfer whose last byte has left, and when."""

    request_id: int
    at_s: float


class _CappedFlow(NamedTuple):
    """A flow with a limit on its rate, its links, all its bytes, and the connections that it stands for."""

    flow: int
    path: Sequence[int]
    size_B: float
    connections: int


class Transport(Protocol):
    """A network mode. Flows start and stop at the clock, which `advance` moves.

    background_B: bytes of all background flows that have stopped. avoided: links that the controller knows to be down.
    """

    background_B: float
    avoided: frozenset[int]

    @property
    def flows(self) -> int:
        """Flows that share the network now."""
        ...

    def start_transfer(
        self, request_id: int, source: int, target: int, size_B: float, connections: int, most_Bps: float = np.inf
    ) -> None:
        """Start a KV transfer of `size_B` bytes between two instances over that many equal connections.

        most_Bps: what they send at most together, until `uncap`; it must not be done by then.
        """
        ...

    def uncap(self, request_id: int) -> None:
        """From now on a transfer that was started with a limit on its rate has none."""
        ...

    def start_background(self, flow: BackgroundFlow) -> None:
        """Start a background flow."""
        ...

    def stop_background(self, flow: BackgroundFlow) -> None:
        """Stop a background flow that was started."""
        ...

    def next_delivery_s(self) -> float:
        """When the next connection ends if none is added or removed before; inf if none ever does."""
        ...

    def advance(self, to_s: float) -> list[Delivery]:
        """Move the clock; the transfers completed on the way, in order."""
        ...

    def link_rate_Bps(self) -> Floats:
        """Rate of every link now, shape [links], bytes/s."""
        ...

    def link_carried_B(self) -> Floats:
        """Bytes that every link has carried since the clock began, shape [links]."""
        ...

    def foreseen_B(self, at_s: float) -> Floats:
        """What `link_carried_B` will be at `at_s` if nothing starts or ends before; no result changes by a bit."""
        ...


class FluidTransport:
    """Connections that share every link max-min fairly: greedy ones, and paced ones up to their rate.

    Connections of one owner that take the same path carry the same rate at every instant, so they are one flow whose
    weight is their number: the same rates and finishing times with fewer flows. `persistent` connections have one
    choice of paths for all the transfers that use them, connections of a single transfer have one for each.
    """

    def __init__(self, fabric: Fabric, choice: PathChoice, persistent: bool = False, start_s: float = 0.0) -> None:
        self._fabric = fabric
        self._choice = choice
        self._persistent = PersistentConnections(len(fabric.instances)) if persistent else None
        self._network = FluidNetwork([link.capacity_bps / 8 for link in fabric.links], start_s)
        self._transfer_of: dict[int, int] = {}  # flow to request
        self._flows_left: dict[int, int] = {}  # by request
        self._capped: dict[int, list[_CappedFlow]] = {}  # by request
        self._background: dict[int, list[int]] = {}
        self._background_flows = 0
        self.background_B = 0.0
        self.avoided: frozenset[int] = frozenset()

    @property
    def clock_s(self) -> float:
        """The time up to which everything has moved, seconds."""
        return self._network.clock_s

    def fork(self, choice: PathChoice | None = None) -> FluidTransport:
        """A copy that goes on by itself from this instant; flows that start later choose their paths by `choice`."""
        copied = copy.copy(self)
        copied._choice = self._choice if choice is None else choice
        copied._persistent = copy.deepcopy(self._persistent)
        copied._network = self._network.fork()
        copied._transfer_of, copied._flows_left = dict(self._transfer_of), dict(self._flows_left)
        copied._capped = dict(self._capped)
        copied._background = {flow: list(parts) for flow, parts in self._background.items()}
        return copied

    @property
    def flows(self) -> int:
        return len(self._transfer_of) + self._background_flows

    def start_transfer(
        self, request_id: int, source: int, target: int, size_B: float, connections: int, most_Bps: float = np.inf
    ) -> None:
        number = request_id if self._persistent is None else self._persistent.take(request_id, source, target)
        dealt = self._choice.deal(TRANSFER, number, connections, self._fabric.path_count(source, target))
        for path, count in dealt:
            links, flow_B = self._fabric.path(source, target, path), size_B * count / connections
            flow = self._network.add(links, flow_B, weight=count, cap_Bps=most_Bps * count / connections)
            self._transfer_of[flow] = request_id
            if most_Bps < np.inf:
                self._capped.setdefault(request_id, []).append(_CappedFlow(flow, links, flow_B, count))
        self._flows_left[request_id] = len(dealt)

    def uncap(self, request_id: int) -> None:
        for flow, path, size_B, count in self._capped.pop(request_id, []):
            left_B = size_B - self._network.remove(flow)
            del self._transfer_of[flow]
            self._transfer_of[self._network.add(path, left_B, weight=count)] = request_id

    def start_background(self, flow: BackgroundFlow) -> None:
        ends = flow.source, flow.target
        dealt = self._choice.deal(BACKGROUND, flow.flow_id, flow.connections, self._fabric.path_count(*ends))
        rate_Bps = np.inf if flow.rate_bps is None else flow.rate_bps / 8
        self._background[flow.flow_id] = [
            self._network.add(self._fabric.path(*ends, path), weight=count, cap_Bps=rate_Bps * count / flow.connections)
            for path, count in dealt
        ]
        self._background_flows += len(dealt)

    def stop_background(self, flow: BackgroundFlow) -> None:
        parts = self._background.pop(flow.flow_id)
        self.background_B += sum(self._network.remove(part) for part in parts)
        self._background_flows -= len(parts)

    def next_delivery_s(self) -> float:
        return self._network.next_completion_s()

    def advance(self, to_s: float) -> list[Delivery]:
        ends_s = self._network.next_completion_s()
        self._network.advance(to_s)
        if to_s < ends_s:
            return []
        delivered = []
        for flow, finish_s in self._network.pop_completed():
            request_id = self._transfer_of.pop(flow)
            self._flows_left[request_id] -= 1
            if not self._flows_left[request_id]:
                del self._flows_left[request_id]
                if self._persistent is not None:
                    self._persistent.give_back(request_id)
                delivered.append(Delivery(request_id, finish_s))
        return delivered

    def link_rate_Bps(self) -> Floats:
        return self._network.link_rate_Bps()

    def link_carried_B(self) -> Floats:
        return self._network.link_carried_B()

    def foreseen_B(self, at_s: float) -> Floats:
        self._network.advance(at_s)  # rates stay as they are, and a flow's bytes follow from its start
        return self._network.link_carried_B()
