"""Statistics of polls: answered and missed ones by switch, and round-trip times. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

ROUND_TRIPS = 2000
"""Number of last polls in the document's round-trip times: five seconds of 20 switches every 50 ms."""


@dataclass
class SwitchPolls:
    """One switch: requests `answered`, polls `missed` since its first answer, and the last round trip."""

    answered: int = 0
    missed: int = 0
    round_trip_s: float | None = None


class PollStatistics:
    """Polls of all switches of a fabric by datapath id; unknown switches are ignored."""

    def __init__(self, dpids: Iterable[int]) -> None:
        self.switches = {dpid: SwitchPolls() for dpid in dpids}
        self._round_trips_s: deque[float] = deque(maxlen=ROUND_TRIPS)

    def restart(self) -> None:
        """Forget what was counted: while switches were being added, polls waited for that."""
        self.switches.update({dpid: SwitchPolls() for dpid in self.switches})
        self._round_trips_s.clear()

    def answered(self, dpid: int, round_trip_s: float) -> None:
        """Count a complete reply that arrived `round_trip_s` after its request."""
        self._round_trips_s.append(round_trip_s)
        if (switch := self.switches.get(dpid)) is not None:
            switch.answered += 1
            switch.round_trip_s = round_trip_s

    def missed(self, dpid: int) -> None:
        """Count a poll that skipped the switch: not connected, or still to answer. Counted after its first reply."""
        if (switch := self.switches.get(dpid)) is not None and switch.answered:
            switch.missed += 1

    @property
    def total_answered(self) -> int:
        return sum(switch.answered for switch in self.switches.values())

    @property
    def total_missed(self) -> int:
        return sum(switch.missed for switch in self.switches.values())

    def round_trip_ms(self) -> dict[str, float] | None:
        """Median and 99th percentile of the last polls' round trips, milliseconds; None before the first."""
        if not self._round_trips_s:
            return None
        ordered = sorted(self._round_trips_s)
        p50, p99 = (ordered[min(int(part * len(ordered)), len(ordered) - 1)] for part in (0.5, 0.99))
        return {"p50": round(1e3 * p50, 3), "p99": round(1e3 * p99, 3)}
