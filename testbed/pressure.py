"""Whether the machine kept up during a run: idle processor time and how late a timer fires."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

STAT = Path("/proc/stat")
WINDOW_S = 0.25
"""A starved quarter of a second is as long as a typical transfer."""


class Pressure:
    """Samples the machine every `WINDOW_S` for as long as `watch` runs; `evidence` sums up what was seen."""

    def __init__(self) -> None:
        self._idle: list[float] = []
        self._lag_ms: list[float] = []

    async def watch(self) -> None:
        before = _ticks()
        while True:
            due_s = time.monotonic() + WINDOW_S
            await asyncio.sleep(WINDOW_S)
            self._lag_ms.append((time.monotonic() - due_s) * 1e3)
            after = _ticks()
            total = after[1] - before[1]
            if total:
                self._idle.append((after[0] - before[0]) / total)
            before = after

    def evidence(self) -> dict[str, Any]:
        """`cpu_idle_mean`, `cpu_starved`: shares of all cores and of the windows with under 2 % idle; lag p99."""
        if not self._idle:
            return {}
        lag_ms = sorted(self._lag_ms)
        return {
            "cpu_idle_mean": sum(self._idle) / len(self._idle),
            "cpu_starved": sum(idle < 0.02 for idle in self._idle) / len(self._idle),
            "timer_lag_p99_ms": lag_ms[int(0.99 * (len(lag_ms) - 1))],
        }


def _ticks() -> tuple[int, int]:
    """Idle and total processor time since boot, in clock ticks, over all cores (proc(5))."""
    fields = [int(word) for word in STAT.read_text().split("\n", 1)[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)
