"""Measures telemetry on a fabric that is up and carries only the background traffic of a scenario.

Once a second: its cost (the controller's share of a processor, bytes on the control channel, round trips) and its
result (utilisation by tier, age of the samples). Times are wall times.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenario import Scenario, link_tiers
from testbed.background_player import BackgroundPlayer
from testbed.errors import TestbedError
from testbed.fabric_up import ORACLE_SOCKET, FabricUp
from testbed.oracle_client import OracleClient, OracleUnavailableError
from testbed.run_clock import RunClock
from testbed.worker_pool import WorkerPool
from topologies import Roles

LOOK_S = 1.0
AGES_A_LOOK = 7
"""The age of a sample depends on the time of the request, so each look requests it at several phases of a poll."""

ANSWER_DEADLINE_S = 2.0
SPARE_S = 10.0
"""Traffic goes on for so much longer than asked, so that the last look sees as much of it as the others."""

Look = dict[str, Any]


class TelemetryMeter:
    """Reads the oracle and its cost. `look` covers the time since the previous look, or since the start."""

    def __init__(self, up: FabricUp) -> None:
        assert up.controller is not None
        self._up = up
        self._controller = up.controller.pid
        self._client = OracleClient(ORACLE_SOCKET)
        self._tier_of = link_tiers(up.fabric)
        self._ages_s: list[float] = []
        self._earlier = self.note_age()
        self._before = self._costs()

    def note_age(self) -> dict[str, Any]:
        """Request the document and note the age of its oldest sample. TestbedError without an answer."""
        try:
            document = self._client.fetch(ANSWER_DEADLINE_S)
        except OracleUnavailableError as problem:
            raise TestbedError(str(problem)) from None
        if document["sampled_monotonic_s"] is not None:
            self._ages_s.append(time.monotonic() - document["sampled_monotonic_s"])
        return document

    def look(self) -> Look:
        """`tiers` (mean and highest of the links' mean utilisation, by tier; 0 where unmeasured), `round_trip_ms`,
        `sample_age_ms`, `polls_answered` and `polls_missed` since the controller started, `control_bytes_per_s` (both
        ways, with TCP and IP headers), `controller_cpu` (part of one processor), `switches_missing` and `links_down`.
        """
        document = self.note_age()
        now = self._costs()
        at_s, cpu_s, control_bytes = (b - a for a, b in zip(self._before, now, strict=True))
        self._before = now
        ages_ms, self._ages_s = [1e3 * age_s for age_s in self._ages_s], []
        utilisation = mean_utilisation(self._earlier, document)
        self._earlier = document
        return {
            "seconds": round(at_s, 3),
            "complete": document["complete"],
            "tiers": [
                {
                    "tier": tier,
                    "mean": round(float(utilisation[self._tier_of == tier].mean()), 4),
                    "highest": round(float(utilisation[self._tier_of == tier].max()), 4),
                }
                for tier in range(4)
            ],
            "round_trip_ms": document["poll_round_trip_ms"],
            "sample_age_ms": {"mean": round(float(np.mean(ages_ms)), 1), "highest": round(max(ages_ms), 1)}
            if ages_ms
            else None,
            "polls_answered": document["polls_answered"],
            "polls_missed": document["polls_missed"],
            "control_bytes_per_s": round(control_bytes / at_s),
            "controller_cpu": round(cpu_s / at_s, 4),
            "switches_missing": document["switches_missing"],
            "links_down": document["links_down"],
        }

    def _costs(self) -> tuple[float, float, int]:
        """The time, the controller's processor time and the bytes of the control channel until now."""
        return time.monotonic(), cpu_s(self._controller), loopback_bytes()


def mean_utilisation(earlier: dict[str, Any], later: dict[str, Any]) -> NDArray[np.float64]:
    """Mean utilisation of every link between the samples of two documents, [links]; 0 if no time passed."""
    begin_s, end_s = (document["sampled_monotonic_s"] for document in (earlier, later))
    links = later["links"]
    if begin_s is None or end_s <= begin_s:
        return np.zeros(len(links))
    bits = [8 * later["rate_scale"] * (link["bytes"] - earlier["links"][name]["bytes"]) for name, link in links.items()]
    capacity = np.array([link["capacity_bps"] for link in links.values()])
    found: NDArray[np.float64] = np.array(bits) / (end_s - begin_s) / capacity
    return found


async def watch(up: FabricUp, scenario: Scenario, seconds: float, report: Callable[[Look], None]) -> None:
    """Run the scenario's background traffic and report a look a second. TestbedError when a process dies."""
    fabric, roles = scenario.build()
    clock = RunClock(up.spec.time_dilation)
    plan = scenario.background(fabric, roles, (seconds + SPARE_S) / up.spec.time_dilation)
    player = BackgroundPlayer(up, plan, clock, lambda role, instance, command: pool.tell(role, instance, command))

    def on_event(_role: str, _instance: int, event: dict[str, Any]) -> None:
        if (handler := player.handlers.get(event["event"])) is not None:
            handler(event)

    if not plan:
        await _looks(up, seconds, report, lambda: "")
        return
    pool = WorkerPool(up, Roles(prefill=(), decode=()), player.instances, scenario, on_event)
    async with pool:
        clock.start(scenario.lead_s)
        traffic = asyncio.create_task(player.play())
        try:
            await _looks(up, seconds, report, pool.dead)
        finally:
            traffic.cancel()
            await asyncio.gather(traffic, return_exceptions=True)
            await player.stop()


async def _looks(up: FabricUp, seconds: float, report: Callable[[Look], None], dead: Callable[[], str]) -> None:
    meter = TelemetryMeter(up)
    due_s = time.monotonic()
    until_s = due_s + seconds
    while time.monotonic() < until_s:
        for _ in range(AGES_A_LOOK):
            due_s += LOOK_S / AGES_A_LOOK
            await asyncio.sleep(due_s - time.monotonic())
            await asyncio.to_thread(meter.note_age)
        if problem := dead():
            raise TestbedError(problem)
        report(await asyncio.to_thread(meter.look))


def cpu_s(process: int) -> float:
    """Processor time of all threads of a process, seconds (schedstat, in nanoseconds)."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return sum(int((thread / "schedstat").read_text(encoding="utf-8").split()[0]) for thread in threads) * 1e-9


def loopback_bytes() -> int:
    """Bytes that the loopback has received; in a sandbox only the control channel uses it, and who reads
    Prometheus or ALTO."""
    lines = Path("/proc/net/dev").read_text(encoding="utf-8").splitlines()
    return next(int(line.split(":")[1].split()[0]) for line in lines if line.strip().startswith("lo:"))
