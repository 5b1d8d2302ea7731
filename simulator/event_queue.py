"""The event queue: a heap of events ordered by time, then by kind, then by the order of their booking."""

from __future__ import annotations

import heapq
import math
from enum import IntEnum


class Kind(IntEnum):
    """The kinds of events, in the order in which those of one instant happen.

    What frees memory comes first, then what breaks or is whole again; what updates the scheduler's knowledge comes
    before its decisions, a decision before a new arrival.
    """

    STEP_END = 0
    RECEIVED = 1
    FAULT = 2
    REROUTE = 3
    BACKGROUND_STOP = 4
    BACKGROUND_START = 5
    POLL = 6
    LINK_ROWS = 7
    REFRESH = 8
    PREFILLED = 9
    ARRIVAL = 10
    OVERDUE = 11


OBSERVERS = frozenset({Kind.POLL, Kind.LINK_ROWS, Kind.REFRESH})
"""Events that only read state: while nothing else is booked the run makes no progress."""

_ONLY_READS = tuple(kind in OBSERVERS for kind in Kind)


class EventQueue:
    """Booked events; `subject` is the number of the request, instance, flow or poll that an event concerns."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, Kind, int, int]] = []
        self._booked = 0
        self._observers = 0

    def book(self, at_s: float, kind: Kind, subject: int) -> None:
        """Add an event at `at_s`, seconds from t = 0."""
        self._booked += 1
        self._observers += _ONLY_READS[kind]
        heapq.heappush(self._heap, (at_s, kind, self._booked, subject))

    @property
    def next_s(self) -> float:
        """Time of the first event, seconds; infinite when none is booked."""
        return self._heap[0][0] if self._heap else math.inf

    @property
    def only_observers(self) -> bool:
        """Whether nothing is booked that changes a request."""
        return len(self._heap) == self._observers

    def take(self, before_s: float = math.inf) -> tuple[float, Kind, int] | None:
        """Remove the first event if it comes before `before_s`; its time, kind and subject. None otherwise."""
        if not self._heap or self._heap[0][0] >= before_s:
            return None
        at_s, kind, _, subject = heapq.heappop(self._heap)
        self._observers -= _ONLY_READS[kind]
        return at_s, kind, subject
