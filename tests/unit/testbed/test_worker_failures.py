"""Workers that end, are killed or come back: the pool with real worker processes on the loopback, and no fabric."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from scenario import Scenario
from testbed import worker_pool
from testbed.fabric_up import FabricUp
from testbed.worker_pool import DECODE_PORT, WorkerPool
from tests.support.analytic_runs import one_pair

pytestmark = pytest.mark.xdist_group("workers")

DEADLINE_S = 30.0
PREFILL, DECODE = 0, 1
WHO = ("decode", DECODE)


class Seen:
    """What a pool said, in order."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.lost: list[tuple[str, int, str]] = []
        self.restarted: list[tuple[str, int]] = []

    def named(self, event: str, request_id: int) -> bool:
        return any(one["event"] == event and one.get("request_id") == request_id for one in self.events)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seen: Seen) -> WorkerPool:
    """One prefill and one decode worker."""
    monkeypatch.setattr(worker_pool, "RUN_DIR", tmp_path)
    monkeypatch.setattr(worker_pool, "REAL_TIME", ())
    scenario: Scenario = one_pair()
    fabric, roles = scenario.build()

    def spawn(_: int, *command: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as sink:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)

    spec = SimpleNamespace(congestion_control="cubic", paced=False, time_dilation=0.01, queue="fifo")
    up = SimpleNamespace(
        fabric=fabric, spec=spec, link_divisor=1.0, spawn=spawn, address=lambda instance: f"127.0.7.{instance + 1}"
    )
    return WorkerPool(
        cast(FabricUp, up),
        roles,
        (),
        scenario,
        lambda role, instance, event: seen.events.append(event),
        lambda *lost: seen.lost.append(lost),
        lambda *restarted: seen.restarted.append(restarted),
    )


def transfer(pool: WorkerPool, request_id: int) -> None:
    moved = {"request_id": request_id, "bytes": 100_000, "stripes": 4}
    pool.tell("decode", DECODE, {"do": "expect", **moved, "context_tokens": 10, "output_tokens": 2})
    address = [f"127.0.7.{DECODE + 1}", DECODE_PORT]
    pool.tell("prefill", PREFILL, {"do": "transfer", **moved, "address": address, "deadline_s": 20.0})


def test_a_killed_worker_comes_back_and_serves_over_new_connections(pool: WorkerPool, seen: Seen) -> None:
    async def story() -> None:
        async with pool:
            transfer(pool, 1)
            await until(lambda: seen.named("finished", 1) and seen.named("transferred", 1))
            pool.kill(*WHO)
            pool.tell(*WHO, {"do": "cancel", "request_id": 7})  # nobody is there to hear it
            pool.start(*WHO)
            await until(lambda: seen.restarted == [WHO])
            transfer(pool, 2)
            await until(lambda: seen.named("finished", 2) and seen.named("transferred", 2))

    asyncio.run(story())
    assert seen.lost == []


def test_a_worker_that_ends_by_itself_is_reported_and_revived(pool: WorkerPool, seen: Seen) -> None:
    async def story() -> None:
        async with pool:
            pool._processes[WHO].kill()
            await until(lambda: bool(seen.lost))
            await pool.revive()
            transfer(pool, 3)
            await until(lambda: seen.named("finished", 3))

    asyncio.run(story())
    name = one_pair().build()[0].instances[DECODE].name
    assert seen.lost == [(*WHO, f"the decode worker on {name} ended by itself")]
    assert seen.restarted == [WHO]


def test_a_stopped_worker_goes_on_where_it_was(pool: WorkerPool, seen: Seen) -> None:
    async def story() -> None:
        async with pool:
            pool.pause(DECODE, True)
            transfer(pool, 4)
            stat = Path(f"/proc/{pool._processes[WHO].pid}/stat")
            await until(lambda: stat.read_text().rpartition(") ")[2].startswith("T"))
            assert not seen.named("received", 4)
            pool.pause(DECODE, False)
            await until(lambda: seen.named("finished", 4))

    asyncio.run(story())
    assert seen.lost == []


def test_the_end_of_a_pool_is_no_loss(pool: WorkerPool, seen: Seen) -> None:
    async def story() -> None:
        async with pool:
            pool.kill(*WHO)

    asyncio.run(story())
    assert (seen.lost, seen.restarted) == ([], [])


def test_a_worker_that_breaks_the_protocol_is_as_good_as_ended(
    pool: WorkerPool, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its `received` comes as no event. What it held is lost, it is dead, and another takes its place."""
    read = worker_pool.read_event
    garbled = {"received": b"[]"}
    monkeypatch.setattr(
        worker_pool, "read_event", lambda line: read(garbled.pop("received", line) if b'"received"' in line else line)
    )

    async def story() -> None:
        async with pool:
            transfer(pool, 5)
            await until(lambda: bool(seen.lost))
            await until(lambda: pool._processes[WHO].poll() is not None)
            await pool.revive()
            transfer(pool, 6)
            await until(lambda: seen.named("finished", 6))

    asyncio.run(story())
    ((role, instance, line),) = seen.lost
    assert (role, instance) == WHO
    assert "does not keep to the protocol: not an event: b'[]'" in line
