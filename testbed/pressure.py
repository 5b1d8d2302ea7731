"""Whether the machine kept up during a run: idle processor time, how late a timer fires, how long the switches wait."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

STAT = Path("/proc/stat")
VSWITCHD_PID = Path("/run/openvswitch/ovs-vswitchd.pid")
WINDOW_S = 0.25
"""A starved quarter of a second is as long as a typical transfer."""


class Pressure:
    """Samples the machine every `WINDOW_S` for as long as `watch` runs; `evidence` sums up what was seen."""

    def __init__(self) -> None:
        self._idle: list[float] = []
        self._lag_ms: list[float] = []
        self._waits: list[float] = []

    async def watch(self) -> None:
        before, waited_s = _ticks(), switch_waited_s()
        while True:
            began_s = time.monotonic()
            due_s = began_s + WINDOW_S
            await asyncio.sleep(WINDOW_S)
            self._lag_ms.append((time.monotonic() - due_s) * 1e3)
            after = _ticks()
            total = after[1] - before[1]
            if total:
                self._idle.append((after[0] - before[0]) / total)
            before, waited_before_s, waited_s = after, waited_s, switch_waited_s()
            self._waits.append((waited_s - waited_before_s) / (time.monotonic() - began_s))

    def evidence(self) -> dict[str, Any]:
        """`cpu_idle_mean`, `cpu_starved`: shares of all cores and of the windows with under 2 % idle; lag p99.

        `switch_wait_mean`: the share of the time in which vswitchd could have run and had no processor.
        """
        if not self._idle:
            return {}
        lag_ms = sorted(self._lag_ms)
        return {
            "cpu_idle_mean": sum(self._idle) / len(self._idle),
            "cpu_starved": sum(idle < 0.02 for idle in self._idle) / len(self._idle),
            "switch_wait_mean": sum(self._waits) / len(self._waits),
            "timer_lag_p99_ms": lag_ms[int(0.99 * (len(lag_ms) - 1))],
        }


def _ticks() -> tuple[int, int]:
    """Idle and total processor time since boot, in clock ticks, over all cores (proc(5))."""
    fields = [int(word) for word in STAT.read_text().split("\n", 1)[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)


def switch_waited_s() -> float:
    """How long vswitchd's main thread has waited for a processor since it started, seconds (sched-stats.rst).

    Its userspace datapath forwards in that thread. 0 where the kernel keeps no such account.
    """
    try:
        pid = VSWITCHD_PID.read_text().strip()
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9
    except FileNotFoundError:
        return 0.0
