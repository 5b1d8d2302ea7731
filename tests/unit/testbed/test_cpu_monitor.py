"""Which processor time counts as a run's own: with the kernel's datapath no process is charged for forwarding."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed import cpu_monitor
from testbed.emulation import EmulationSpec

pytestmark = pytest.mark.xdist_group("host")

STAT = "cpu  100 0 100 {idle} 0 {irq} {softirq} 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n"
WATCHED_S = 0.4
WINDOW_S = 0.0005
DEADLINE_S = 60.0


class Up:
    """The part of a fabric that the CPU monitor uses: its timer probe reports no late timer."""

    def __init__(self, datapath: str) -> None:
        self.spec = EmulationSpec.model_validate({"datapath": datapath})

    def spawn(self, instance: int, *command: str, log: Path) -> Any:
        log.write_text('{"lag_p99_ms": 0.5}\n')
        return subprocess.Popen(["sleep", "60"])


class Clock:
    """The monitor's clock, which the test moves; it goes on by a microsecond whenever it is read."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.readings = 0

    def monotonic(self) -> float:
        self.readings += 1
        self.now_s += 1e-6
        return self.now_s


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not done():
            await asyncio.sleep(WINDOW_S)


def watched(up: Any, stat: Path, clock: Clock) -> dict[str, Any]:
    """One processor of two forwards, all in soft interrupts, for as long as is watched."""

    async def watch() -> dict[str, Any]:
        monitor = cpu_monitor.CpuMonitor(up, 0)
        watching = asyncio.create_task(monitor.watch())
        await until(lambda: clock.readings >= 3)  # the work done so far, and one window's begin and end
        clock.now_s += WATCHED_S
        spent = round(WATCHED_S * cpu_monitor.TICKS_PER_S)
        stat.write_text(STAT.format(idle=1000 + spent, irq=50 + spent // 4, softirq=50 + spent - spent // 4))
        seen = clock.readings
        await until(lambda: clock.readings >= seen + 2)  # a whole window has come after that
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        return monitor.evidence()

    return asyncio.run(watch())


@pytest.mark.parametrize(("datapath", "cpus"), [("user", 0.0), ("kernel", 1.0)])
def test_forwarding_in_the_kernel_is_work_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, datapath: str, cpus: float
) -> None:
    stat = tmp_path / "stat"
    stat.write_text(STAT.format(idle=1000, irq=50, softirq=50))
    monkeypatch.setattr(cpu_monitor, "STAT", stat)
    monkeypatch.setattr(cpu_monitor, "RUN_DIR", tmp_path)
    monkeypatch.setattr(cpu_monitor, "PROCESSES", tmp_path)
    clock = Clock()
    monkeypatch.setattr(cpu_monitor, "time", clock)
    monkeypatch.setattr(cpu_monitor, "WINDOW_S", WINDOW_S)
    evidence = watched(Up(datapath), stat, clock)
    assert evidence["own_cpus"] == pytest.approx(cpus, rel=0.001)
    assert evidence["cpu_idle_mean"] == pytest.approx(0.5, abs=0.1)
    assert evidence["timer_lag_p99_ms"] == 0.5
