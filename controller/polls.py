"""The book of polls: which were answered, how long that took, and which switch left one unanswered. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

ROUND_TRIPS = 2000
"""Of so many of the last polls the document tells the round trip: five seconds of 20 switches every 50 ms."""


@dataclass
class SwitchPolls:
    """Of one switch: requests `answered`, sweeps that `missed` it since the first answer, and the last round trip."""

    answered: int = 0
    missed: int = 0
    round_trip_s: float | None = None


class PollStatistics:
    """Polls of all switches of a fabric by datapath id; switches that the fabric does not have are left out."""

    def __init__(self, dpids: Iterable[int]) -> None:
        self.switches = {dpid: SwitchPolls() for dpid in dpids}
        self._round_trips_s: deque[float] = deque(maxlen=ROUND_TRIPS)

    def answered(self, dpid: int, round_trip_s: float) -> None:
        """A whole reply came, so long after its request."""
        self._round_trips_s.append(round_trip_s)
        if (switch := self.switches.get(dpid)) is not None:
            switch.answered += 1
            switch.round_trip_s = round_trip_s

    def missed(self, dpid: int) -> None:
        """A sweep found the request before it unanswered, or nobody connected; until a first reply that is start-up."""
        if (switch := self.switches.get(dpid)) is not None and switch.answered:
            switch.missed += 1

    @property
    def answered_in_all(self) -> int:
        return sum(switch.answered for switch in self.switches.values())

    @property
    def missed_in_all(self) -> int:
        return sum(switch.missed for switch in self.switches.values())

    def round_trip_ms(self) -> dict[str, float] | None:
        """Median and 99th percentile of the last polls' round trips, milliseconds; None before the first."""
        if not self._round_trips_s:
            return None
        ordered = sorted(self._round_trips_s)
        p50, p99 = (ordered[min(int(part * len(ordered)), len(ordered) - 1)] for part in (0.5, 0.99))
        return {"p50": round(1e3 * p50, 3), "p99": round(1e3 * p99, 3)}
