"""Measures whether the machine was fast enough: idle processors, CPU pressure, the switches' waits, a timer's lag."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from array import array
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from testbed.child_python import child_python
from testbed.fabric_up import FabricUp
from testbed.sandbox import RUN_DIR
from testbed.vswitchd import RUN_FOLDER

PROCESSES = Path("/proc")
STAT = Path("/proc/stat")
PRESSURE = Path("/proc/pressure/cpu")
WINDOW_S = 0.25
"""Length of one sample, seconds: that of a typical transfer."""

PROBE_DEADLINE_S = 5.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class CpuMonitor:
    """Samples the machine every `WINDOW_S` while `watch` runs; `evidence` summarises the samples.

    A timer probe (`workers.timer_probe`) runs meanwhile in the namespace of `instance`.
    """

    def __init__(self, up: FabricUp, instance: int) -> None:
        self._up = up
        self._instance = instance
        self._idle, self._pressure, self._waits = array("d"), array("d"), array("d")
        self._timer_lag: dict[str, float] = {}
        self._own_cpus = 0.0

    async def watch(self, begin: Awaitable[None] | None = None) -> None:
        """Sample every window until cancelled, from when `begin` is over; only the timer probe starts before.

        Files are read in a thread: the loop that calls this may serve requests.
        """
        log = RUN_DIR / "timer_probe.log"
        timer_probe = self._up.spawn(self._instance, *child_python("workers.timer_probe", bare=True), log=log)
        try:
            await (begin or asyncio.sleep(0))
            before = await asyncio.to_thread(WorkDone.now)
            try:
                await self._sample()
            finally:
                self._own_cpus = before.cpus_until_now(counts_interrupts=self._up.spec.datapath == "kernel")
        finally:
            timer_probe.terminate()
            try:
                timer_probe.wait(PROBE_DEADLINE_S)
                self._timer_lag = json.loads(log.read_text().splitlines()[-1])
            except (subprocess.TimeoutExpired, ValueError, IndexError):
                timer_probe.kill()  # it did not answer: the deadline counts as its lag
                self._timer_lag = {"lag_p99_ms": PROBE_DEADLINE_S * 1e3}

    async def _sample(self) -> None:
        before = await asyncio.to_thread(MachineState.now)
        while True:
            await asyncio.sleep(WINDOW_S)
            after = await asyncio.to_thread(MachineState.now)
            window_s = after.at_s - before.at_s
            idle_s = after.processors.idle_s - before.processors.idle_s
            if spent_s := idle_s + after.processors.busy_s - before.processors.busy_s:
                self._idle.append(idle_s / spent_s)
            self._waits.append(wait_share(before.switches, after.switches, window_s))
            self._pressure.append((after.pressure_s - before.pressure_s) / window_s)
            before = after

    def evidence(self) -> dict[str, Any]:
        """`cpu_idle_mean`, `cpu_starved`: shares of all cores and of the windows with under 2 % idle.

        `own_cpus`: processors that the sandbox's own processes kept busy. With datapath=kernel the time of all
        interrupts is added, because the kernel forwards in them and charges no process for it.
        `cpu_pressure_mean`, `cpu_pressure_p90`: share of a window in which some process waited for a processor, over
        the windows. `switch_wait_mean`: the same of the switches alone (`wait_share`).
        `timer_lag_p99_ms`: of the timer probe.
        """
        if not self._idle:
            return {}
        pressures = sorted(self._pressure)
        return {
            "cpu_idle_mean": sum(self._idle) / len(self._idle),
            "own_cpus": self._own_cpus,
            "cpu_starved": sum(idle < 0.02 for idle in self._idle) / len(self._idle),
            "cpu_pressure_mean": sum(pressures) / len(pressures),
            "cpu_pressure_p90": pressures[int(0.9 * (len(pressures) - 1))],
            "switch_wait_mean": sum(self._waits) / len(self._waits),
            "timer_lag_p99_ms": self._timer_lag["lag_p99_ms"],
        }


class ProcessorTimes(NamedTuple):
    """Seconds of all cores since boot (proc(5)); `interrupted_s`, in hard and soft interrupts, is part of them."""

    idle_s: float
    busy_s: float
    interrupted_s: float


def processor_times() -> ProcessorTimes:
    line = STAT.read_text().split("\n", 1)[0]
    user, nice, system, idle, iowait, irq, softirq, steal = (int(word) / TICKS_PER_S for word in line.split()[1:9])
    return ProcessorTimes(idle + iowait, user + nice + system + irq + softirq + steal, irq + softirq)


class MachineState(NamedTuple):
    """What a window begins and ends with; `at_s`: CLOCK_MONOTONIC."""

    at_s: float
    processors: ProcessorTimes
    switches: dict[str, SchedulingTimes]
    pressure_s: float

    @classmethod
    def now(cls) -> MachineState:
        return cls(time.monotonic(), processor_times(), switches_scheduled(), cpu_pressure_s())


class WorkDone(NamedTuple):
    """Processor seconds that every process has spent, and the machine in interrupts; `at_s`: CLOCK_MONOTONIC."""

    at_s: float
    spent_s: dict[int, float]
    interrupted_s: float

    @classmethod
    def now(cls) -> WorkDone:
        return cls(time.monotonic(), spent_by_process_s(), processor_times().interrupted_s)

    def cpus_until_now(self, *, counts_interrupts: bool) -> float:
        """Processors that all processes have kept busy since then."""
        end = WorkDone.now()
        more_s = sum(now_s - self.spent_s.get(pid, 0.0) for pid, now_s in end.spent_s.items())
        if counts_interrupts:
            more_s += end.interrupted_s - self.interrupted_s
        return more_s / (end.at_s - self.at_s)


def spent_by_process_s() -> dict[int, float]:
    """Processor seconds of every visible process, by pid (proc_pid_stat(5)); in a sandbox only its own are visible."""
    found = {}
    for place in PROCESSES.glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # the process has ended
        found[int(place.name)] = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return found


class SchedulingTimes(NamedTuple):
    """Seconds since a thread started in which it ran, and in which it waited for a processor."""

    ran_s: float
    waited_s: float


def switches_scheduled() -> dict[str, SchedulingTimes]:
    """The threads that forward the packets of userspace switches, by the file of their vswitchd and their number.

    Empty where the kernel has no such statistics (Linux's scheduler/sched-stats.rst).
    """
    found = {}
    for file in RUN_FOLDER.glob("ovs-vswitchd*.pid"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for thread in forwarding_threads(PROCESSES / file.read_text().strip()):
                ran_ns, waited_ns, _ = (thread / "schedstat").read_text().split()
                found[f"{file.name} {thread.name}"] = SchedulingTimes(int(ran_ns) / 1e9, int(waited_ns) / 1e9)
    return found


def forwarding_threads(vswitchd: Path) -> list[Path]:
    """The poll-mode threads of a vswitchd (datapath=afxdp), else its main thread; `vswitchd` is its folder in /proc."""
    threads = [*(vswitchd / "task").iterdir()]
    polling = [thread for thread in threads if (thread / "comm").read_text().startswith("pmd-")]
    return polling or [vswitchd / "task" / vswitchd.name]


def wait_share(before: dict[str, SchedulingTimes], after: dict[str, SchedulingTimes], window_s: float) -> float:
    """Share of a window for which the switches waited; of several threads the mean, weighted by how long each ran.

    The weight gives the share for the switches that had packets.
    """
    nothing = SchedulingTimes(0.0, 0.0)
    ran_s = {file: now.ran_s - before.get(file, nothing).ran_s for file, now in after.items()}
    waited_s = {file: now.waited_s - before.get(file, nothing).waited_s for file, now in after.items()}
    in_all_s = sum(ran_s.values())
    if not in_all_s:
        return 0.0
    return sum(waited_s[file] * ran_s[file] for file in after) / in_all_s / window_s


def cpu_pressure_s() -> float:
    """How long some process has waited for a processor since boot, seconds (Linux's accounting/psi.rst).

    0 where the kernel has no such statistics.
    """
    try:
        some = PRESSURE.read_text().split("\n", 1)[0]
    except OSError:  # missing, or disabled at boot
        return 0.0
    return int(some.rpartition("total=")[2]) / 1e6
