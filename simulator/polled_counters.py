"""The telemetry of a simulated controller: byte counters polled every `poll_s`, and the utilisation between two polls.

Nothing between polls is invented: a sample is the mean over the last whole poll interval and carries the time of that
interval's end. The polls have a phase of their own relative to t = 0, drawn from the seed. Only
polls that are read later are made.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from scheduler import NetworkSample

Floats = NDArray[np.float64]


class PolledCounters:
    """The two polls before the next look of one reader, which announces that look by `expect`.

    Poll k happens at `phase_s` + k `poll_s`, for every whole k. Until `start_s` nothing has been carried.
    """

    def __init__(self, capacity_Bps: Floats, poll_s: float, phase_s: float, start_s: float) -> None:
        self._poll_s = poll_s
        self._poll_B = poll_s * capacity_Bps  # what each link carries at most between two polls
        self._phase_s = phase_s
        self._start_s = start_s
        self._last = 0
        self._readings: dict[int, Floats | None] = {}

    def expect(self, look_s: float) -> list[tuple[int, float]]:
        """The polls, as (number, time), that must still be made for a look at `look_s`."""
        last = math.floor((look_s - self._phase_s) / self._poll_s)
        self._last = last if self._at_s(last) <= look_s else last - 1
        self._readings = {number: self._readings.get(number) for number in (self._last - 1, self._last)}
        wanted = []
        for number, reading in self._readings.items():
            if reading is None and self._at_s(number) <= self._start_s:
                self._readings[number] = np.zeros(len(self._poll_B))
            elif reading is None:
                wanted.append((number, self._at_s(number)))
        return wanted

    def record(self, number: int, carried_B: Floats) -> None:
        """Take the byte counters, [links], of a poll if it was expected."""
        if number in self._readings:
            self._readings[number] = carried_B

    def sample(self) -> NetworkSample:
        """The utilisation over the last poll interval before the expected look, and when that interval ended."""
        carried_B = self._reading(self._last) - self._reading(self._last - 1)
        utilisation = np.minimum(np.maximum(carried_B / self._poll_B, 0.0), 1.0)
        return NetworkSample(self._at_s(self._last), utilisation)

    @property
    def carried_B(self) -> Floats:
        """The byte counters, [links], at the last poll before the expected look."""
        return self._reading(self._last)

    def _reading(self, number: int) -> Floats:
        reading = self._readings[number]
        if reading is None:
            raise LookupError(f"poll {number} at {self._at_s(number):g} s was expected and never made")
        return reading

    def _at_s(self, number: int) -> float:
        return self._phase_s + number * self._poll_s
