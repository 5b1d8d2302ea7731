"""Recorded transfers simulated again: recorded starts, sizes and paths in, finishing times out.

Nothing is decided here, so only the network model differs from what was recorded.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from scenario import BackgroundFlow
from simulator.path_choice import PathChoice
from simulator.transport import Transport

Owner = tuple[int, int]
"""TRANSFER or BACKGROUND of `path_choice`, and the number of the request or flow."""


class RecordedTransfer(NamedTuple):
    """One KV transfer as it happened: instances by number, seconds from t = 0, bytes to move."""

    request_id: int
    start_s: float
    source: int
    target: int
    size_B: float
    connections: int


class RecordedPaths(PathChoice):
    """The recorded paths of connections; connections without one are spread by a hash, as by ECMP."""

    def __init__(self, paths: Mapping[Owner, Iterable[int]], seed: int = 0) -> None:
        """paths: a path for every connection of an owner, in order; negative where it is not known."""
        super().__init__(seed, "hashed")
        self._paths = {owner: list(taken) for owner, taken in paths.items()}

    def deal(self, owner: int, number: int, connections: int, paths: int) -> list[tuple[int, int]]:
        taken = self._paths.get((owner, number), [])
        if len(taken) != connections or min(taken, default=-1) < 0 or max(taken) >= paths:
            return super().deal(owner, number, connections, paths)
        return sorted(Counter(taken).items())


def replay_recorded(
    transport: Transport, transfers: Iterable[RecordedTransfer], background: Iterable[BackgroundFlow]
) -> dict[int, float]:
    """When each transfer would have ended on `transport`, seconds, by request.

    At one instant background flows stop first, then start, then transfers start.
    """
    events: list[tuple[float, int, int, RecordedTransfer | BackgroundFlow]] = []
    for transfer in transfers:
        events.append((max(transfer.start_s, 0.0), 2, transfer.request_id, transfer))
    for flow in background:
        start_s = max(flow.start_s, 0.0)
        if flow.stop_s > start_s:
            events += [(start_s, 1, flow.flow_id, flow), (flow.stop_s, 0, flow.flow_id, flow)]
    finish_s: dict[int, float] = {}
    for at_s, kind, _, subject in sorted(events, key=lambda event: event[:3]):
        _advance(transport, at_s, finish_s)
        if isinstance(subject, RecordedTransfer):
            connections = subject.connections
            transport.start_transfer(subject.request_id, subject.source, subject.target, subject.size_B, connections)
        elif kind:
            transport.start_background(subject)
        else:
            transport.stop_background(subject)
    _advance(transport, math.inf, finish_s)
    return finish_s


def _advance(transport: Transport, to_s: float, finish_s: dict[int, float]) -> None:
    """Move the clock through every completion up to `to_s`."""
    while (next_s := transport.next_delivery_s()) <= to_s and math.isfinite(next_s):
        finish_s.update(transport.advance(next_s))
    if math.isfinite(to_s):
        finish_s.update(transport.advance(to_s))
