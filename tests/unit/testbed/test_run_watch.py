"""Watching an emulated run: the looks inside the sandbox, and how they reach the host."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Any

import pytest

from scenario import Scenario
from scheduler import Decision
from serving import Lifecycle, Outcome, RunLook, Watch
from testbed import EmulatedWorld, EmulationSpec
from testbed.run_clock import RunClock
from testbed.run_watch import show_run
from workloads import Request


class NoMovers:
    """Movers that move nothing."""

    def prefill(self, request: Request, prefill_id: int, prefill_s: float) -> None: ...
    def transfer(self, request: Request, decision: Decision) -> None: ...
    def abandon(self, request_id: int, decode_id: int) -> None: ...


class HurriedClock(RunClock):
    """Nobody waits for its time: it has come as soon as it is asked for."""

    def __init__(self) -> None:
        self._wall_s = 100.0
        super().__init__(1.0, lambda: self._wall_s)

    async def until(self, real_s: float) -> None:
        self._wall_s += max(real_s - self.now_s(), 0.0)
        await asyncio.sleep(0)


def test_a_run_is_looked_at_from_its_start_on_until_it_ends() -> None:
    scenario = Scenario(policy="round_robin")
    fabric, roles = scenario.build()
    requests = [Request(0, 0.0, 1000, 5, (0, 1)), Request(1, 1e6, 700, 1, (0, 2))]
    life = Lifecycle(scenario, fabric, roles, requests, NoMovers())
    looks: list[RunLook] = []
    links: dict[str, float] = {}

    def on_look(look: RunLook) -> None:
        looks.append(look)
        links["tor0>agg0"] = 0.5  # the controller has counted meanwhile
        if len(looks) == 2:
            life.arrive(requests[0])
            life.prefill_started(0, 0.0)

    async def for_a_while() -> None:
        clock = HurriedClock()
        clock.start(0.05)
        watching = asyncio.create_task(show_run(Watch(0.02, on_look), life, clock, lambda: dict(links)))
        while len(looks) < 6:
            await asyncio.sleep(0)
        watching.cancel()

    asyncio.run(for_a_while())
    assert [look.at_s for look in looks[:6]] == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.08, 0.1])
    assert [look.stages["prefill"] for look in looks[:3]] == [0, 0, 1]
    assert looks[2].stages["queue"] == 0  # the other one is not there yet
    assert (looks[0].utilisation, looks[1].utilisation) == ({}, {"tor0>agg0": 0.5})


LOOK = RunLook(1.0, {"queue": 1}, 2, 0, (), 0.5, {0: 200.0}, {"tor0>agg0": 0.25})


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A sandbox that answers with a look and an outcome; what the host has ordered."""
    outcome = Outcome(evidence={"kv_wire_bytes": 0})
    answers = [{"done": 2}, {"look": LOOK.as_json()}, {"outcome": asdict(outcome)}]
    ordered: list[Any] = []
    monkeypatch.setattr(EmulatedWorld, "_write", lambda _, message: ordered.append(message))
    monkeypatch.setattr(EmulatedWorld, "_next_line", lambda _: json.dumps(answers.pop(0)).encode())
    for evidence in ("offered_and_measured", "transfer_time_error"):
        monkeypatch.setattr(f"testbed.emulated_world.{evidence}", lambda *_: None)
    return ordered


def test_a_look_reaches_the_host_as_it_was(sandbox: list[Any]) -> None:
    looks: list[RunLook] = []
    EmulatedWorld(Scenario(), EmulationSpec()).run(Scenario(), watch=Watch(0.5, looks.append))
    assert looks == [LOOK]
    assert sandbox[0]["look_every_s"] == 0.5


def test_a_run_that_nobody_watches_sends_no_looks(sandbox: list[Any]) -> None:
    EmulatedWorld(Scenario(), EmulationSpec()).run(Scenario())
    assert sandbox[0]["look_every_s"] is None
