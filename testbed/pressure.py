"""Whether the machine kept up during a run: idle processors, pressure, how long the switches wait, a timer's lag."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from testbed.fabric_up import FabricUp
from testbed.sandbox import RUN_DIR
from testbed.worker_pool import WORKER_PYTHON

PROCESSES = Path("/proc")
STAT = Path("/proc/stat")
PRESSURE = Path("/proc/pressure/cpu")
RUN_FOLDER = Path("/run/openvswitch")
WINDOW_S = 0.25
"""A starved quarter of a second is as long as a typical transfer."""

CANARY_DEADLINE_S = 5.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Pressure:
    """Samples the machine every `WINDOW_S` for as long as `watch` runs; `evidence` sums up what was seen.

    A canary sleeps on `instance`, in the namespace of its host, meanwhile.
    """

    def __init__(self, up: FabricUp, instance: int) -> None:
        self._up = up
        self._instance = instance
        self._idle: list[float] = []
        self._pressed: list[float] = []
        self._waits: list[float] = []
        self._canary: dict[str, float] = {}
        self._own_cpus = 0.0

    async def watch(self) -> None:
        """Look at every window until cancelled."""
        log = RUN_DIR / "canary.log"
        canary = self._up.spawn(self._instance, *WORKER_PYTHON, "testbed.canary", log=log)
        began_s, spent_s = time.monotonic(), spent_by_process_s()
        try:
            await self._sample()
        finally:
            more_s = sum(now_s - spent_s.get(pid, 0.0) for pid, now_s in spent_by_process_s().items())
            self._own_cpus = more_s / (time.monotonic() - began_s)
            canary.terminate()
            try:
                canary.wait(CANARY_DEADLINE_S)
                self._canary = json.loads(log.read_text().splitlines()[-1])
            except (subprocess.TimeoutExpired, ValueError, IndexError):
                canary.kill()  # it could not even say so: its deadline is its lag
                self._canary = {"lag_p99_ms": CANARY_DEADLINE_S * 1e3}

    async def _sample(self) -> None:
        before, waited_s, pressed_s = _ticks(), switches_waited_s(), pressed_so_far_s()
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(WINDOW_S)
            window_s = time.monotonic() - began_s
            after = _ticks()
            total = after[1] - before[1]
            if total:
                self._idle.append((after[0] - before[0]) / total)
            before, waited_before_s, waited_s = after, waited_s, switches_waited_s()
            pressed_before_s, pressed_s = pressed_s, pressed_so_far_s()
            waits_s = [waited_s[file] - waited_before_s.get(file, 0.0) for file in waited_s]
            self._waits.append(max(waits_s, default=0.0) / window_s)
            self._pressed.append((pressed_s - pressed_before_s) / window_s)

    def evidence(self) -> dict[str, Any]:
        """`cpu_idle_mean`, `cpu_starved`: shares of all cores and of the windows with under 2 % idle.

        `own_cpus`: processors that the sandbox's own processes kept busy, whatever else the machine did.
        `cpu_pressure_mean`, `cpu_pressure_p90`: share of a window in which some process waited for a processor, over
        the windows. `switch_wait_mean`: the same of vswitchd alone, of several the one that waited longest.
        `timer_lag_p99_ms`: the canary's.
        """
        if not self._idle:
            return {}
        pressed = sorted(self._pressed)
        return {
            "cpu_idle_mean": sum(self._idle) / len(self._idle),
            "own_cpus": self._own_cpus,
            "cpu_starved": sum(idle < 0.02 for idle in self._idle) / len(self._idle),
            "cpu_pressure_mean": sum(pressed) / len(pressed),
            "cpu_pressure_p90": pressed[int(0.9 * (len(pressed) - 1))],
            "switch_wait_mean": sum(self._waits) / len(self._waits),
            "timer_lag_p99_ms": self._canary["lag_p99_ms"],
        }


def _ticks() -> tuple[int, int]:
    """Idle and total processor time since boot, in clock ticks, over all cores (proc(5))."""
    fields = [int(word) for word in STAT.read_text().split("\n", 1)[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)


def spent_by_process_s() -> dict[int, float]:
    """Processor seconds of every process that can be seen, in a sandbox its own ones, by number (proc_pid_stat(5))."""
    found = {}
    for place in PROCESSES.glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        found[int(place.name)] = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return found


def switches_waited_s() -> dict[str, float]:
    """How long the main thread of every vswitchd has waited for a processor since it started, seconds, by its file.

    Its userspace datapath forwards in that thread (sched-stats.rst). 0 where the kernel keeps no such account.
    """
    found = {}
    for file in RUN_FOLDER.glob("ovs-vswitchd*.pid"):
        try:
            pid = file.read_text().strip()
            found[file.name] = int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9
        except FileNotFoundError:
            found[file.name] = 0.0
    return found


def pressed_so_far_s() -> float:
    """How long some process has waited for a processor since boot, seconds (Linux's accounting/psi.rst).

    0 where the kernel keeps no such account.
    """
    try:
        some = PRESSURE.read_text().split("\n", 1)[0]
    except OSError:  # also where it is compiled in and switched off
        return 0.0
    return int(some.rpartition("total=")[2]) / 1e6
