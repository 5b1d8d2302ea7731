"""Recorded transfers simulated again: recorded starts, sizes and paths in, finishing times out.

Nothing is decided here, so only the network model differs from what was recorded.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from scenario import BackgroundFlow
from simulator.path_choice import BACKGROUND, TRANSFER, PathChoice
from simulator.transport import Transport

Owner = tuple[int, int]
"""TRANSFER or BACKGROUND of `path_choice`, and the number of the request or flow."""

OWNERS = {"transfer": TRANSFER, "background": BACKGROUND}
Connection = Mapping[str, Any]
"""A row of a run's table `paths`: owner, number, source, target, started_s, ended_s, rate_bps (None: greedy), path."""


class RecordedTransfer(NamedTuple):
    """One KV transfer as it happened: instances by number, seconds from t = 0, bytes to move.

    overlap: the share of them that may leave before the prefill has ended at `prefilled_s`.
    """

    request_id: int
    start_s: float
    source: int
    target: int
    size_B: float
    connections: int
    overlap: float = 0.0
    prefilled_s: float = -math.inf


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

    def without(self, owner: int, number: int) -> RecordedPaths:
        """The same record without one owner's connections, whose paths are then not known."""
        forgetful = copy.copy(self)
        forgetful._paths = {key: taken for key, taken in self._paths.items() if key != (owner, number)}
        return forgetful


def recorded_paths(connections: Iterable[Connection]) -> dict[Owner, list[int]]:
    """The paths of each owner's connections, in order, as `RecordedPaths` takes them."""
    taken: dict[Owner, list[int]] = {}
    for row in connections:
        taken.setdefault((OWNERS[row["owner"]], row["number"]), []).append(row["path"])
    return taken


def recorded_background(connections: Iterable[Connection]) -> list[BackgroundFlow]:
    """The background flows that the rows are connections of; one without a rate is greedy."""
    counts = Counter(
        (row["number"], row["started_s"], row["ended_s"], row["source"], row["target"], _rate(row["rate_bps"]))
        for row in connections
        if OWNERS[row["owner"]] == BACKGROUND
    )
    return [
        BackgroundFlow(number, start_s, stop_s, source, target, connections, rate_bps)
        for (number, start_s, stop_s, source, target, rate_bps), connections in counts.items()
    ]


def _rate(rate_bps: float | None) -> float | None:
    return None if rate_bps is None or math.isnan(rate_bps) else rate_bps


def replay_recorded(
    transport: Transport, transfers: Iterable[RecordedTransfer], background: Iterable[BackgroundFlow]
) -> dict[int, float]:
    """When each transfer would have ended on `transport`, seconds, by request.

    At one instant background flows stop first, then start, then transfers start, then prefills end.
    """
    events: list[tuple[float, int, int, RecordedTransfer | BackgroundFlow]] = []
    for transfer in transfers:
        start_s = max(transfer.start_s, 0.0)
        events.append((start_s, 2, transfer.request_id, transfer))
        if transfer.overlap and transfer.prefilled_s > start_s:
            events.append((transfer.prefilled_s, 3, transfer.request_id, transfer))
    for flow in background:
        start_s = max(flow.start_s, 0.0)
        if flow.stop_s > start_s:
            events += [(start_s, 1, flow.flow_id, flow), (flow.stop_s, 0, flow.flow_id, flow)]
    finish_s: dict[int, float] = {}
    for at_s, kind, _, subject in sorted(events, key=lambda event: event[:3]):
        _advance(transport, at_s, finish_s)
        if isinstance(subject, RecordedTransfer) and kind == 3:
            transport.uncap(subject.request_id)
        elif isinstance(subject, RecordedTransfer):
            number, ends = subject.request_id, (subject.source, subject.target)
            early_s = subject.prefilled_s - at_s
            most_Bps = subject.overlap * subject.size_B / early_s if subject.overlap and early_s > 0 else math.inf
            transport.start_transfer(number, *ends, subject.size_B, subject.connections, most_Bps)
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
