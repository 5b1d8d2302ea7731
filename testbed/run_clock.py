"""The clock of one run: real-system seconds from t = 0, with time dilation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class RunClock:
    """Turns monotonic wall seconds into the run's real-system ones, `dilation` times fewer. `start` sets t = 0."""

    def __init__(self, dilation: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.dilation = dilation
        self._monotonic = monotonic
        self._start_s = 0.0

    def start(self, lead_s: float) -> None:
        """The clock reads -`lead_s` now."""
        self._start_s = self._monotonic() + lead_s * self.dilation

    def real_s(self, monotonic_s: float) -> float:
        """A monotonic wall time as time of the run."""
        return (monotonic_s - self._start_s) / self.dilation

    def now_s(self) -> float:
        return self.real_s(self._monotonic())

    async def until(self, real_s: float) -> None:
        """Return at that time of the run, at once if it has passed."""
        await asyncio.sleep(max(self._start_s + real_s * self.dilation - self._monotonic(), 0))
