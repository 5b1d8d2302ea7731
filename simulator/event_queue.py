"""What happens next: a heap of events ordered by time, then by kind, then by when they were booked."""

from __future__ import annotations

import heapq
import math
from enum import IntEnum


class Kind(IntEnum):
    """The kinds of events, in the order in which those of one instant happen.

    What frees room comes first, what the scheduler knows before what it decides, and a decision before a new arrival.
    """

    STEP_END = 0
    RECEIVED = 1
    BACKGROUND_STOP = 2
    BACKGROUND_START = 3
    POLL = 4
    LINK_ROWS = 5
    REFRESH = 6
    PREFILLED = 7
    ARRIVAL = 8


OBSERVERS = frozenset({Kind.POLL, Kind.LINK_ROWS, Kind.REFRESH})
"""Events that only look: while nothing else is booked the run makes no progress."""


class EventQueue:
    """Booked events; `subject` says whom an event concerns (a request, an instance, a flow, a poll)."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, Kind, int, int]] = []
        self._booked = 0
        self._observers = 0

    def book(self, at_s: float, kind: Kind, subject: int) -> None:
        self._booked += 1
        self._observers += kind in OBSERVERS
        heapq.heappush(self._heap, (at_s, kind, self._booked, subject))

    @property
    def next_s(self) -> float:
        return self._heap[0][0] if self._heap else math.inf

    @property
    def only_observers(self) -> bool:
        """Whether nothing is booked that changes a request."""
        return len(self._heap) == self._observers

    def take(self) -> tuple[float, Kind, int]:
        """The first event: its time, kind and subject."""
        at_s, kind, _, subject = heapq.heappop(self._heap)
        self._observers -= kind in OBSERVERS
        return at_s, kind, subject
