"""The snapshots that an emulated run reads, and the rows that it keeps of them."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from testbed.oracle_client import OracleUnavailableError
from testbed.oracle_watch import OracleWatch
from topologies import FabricSpec, build_fattree

FABRIC = build_fattree(FabricSpec())


class Client:
    """Has a document at first, then none."""

    def __init__(self) -> None:
        self.asked = 0

    def fetch(self) -> dict[str, Any]:
        self.asked += 1
        if self.asked > 1:
            raise OracleUnavailableError("nobody answers")
        links = {link.name: {"utilisation": 0.25} for link in FABRIC.links}
        return {"schema": "netkv.cost/v1", "sampled_monotonic_s": 100.0, "links": links}


class Clock:
    """A run that began at 99 s of the machine's clock; it is always where somebody waits for it to be."""

    at_s = 0.0

    def now_s(self) -> float:
        return self.at_s

    def real_s(self, monotonic_s: float) -> float:
        return monotonic_s - 99.0

    async def until(self, real_s: float) -> None:
        self.at_s = real_s


class Taker:
    """A dispatcher that wants two documents."""

    def __init__(self) -> None:
        self.due_s = iter((4.0, math.inf))
        self.oracle = self

    def offer_sample(self, *_: object) -> None:
        """Take it."""

    def next_due_s(self) -> float:
        return next(self.due_s)


def test_every_document_read_is_on_record_and_a_refused_one_as_nothing() -> None:
    watch = OracleWatch(Client(), Taker(), FABRIC, Clock(), 2.0)  # type: ignore[arg-type]
    asyncio.run(watch.watch())
    rows = watch.rows()
    links = len(FABRIC.links)
    assert [row["link"] for row in rows[:links]] == [link.name for link in FABRIC.links]
    assert {(row["read_s"], row["sampled_s"], row["utilisation"]) for row in rows[:links]} == {(2.0, 1.0, 0.25)}
    assert {row["read_s"] for row in rows[links:]} == {4.0}
    assert all(math.isnan(row["sampled_s"]) and math.isnan(row["utilisation"]) for row in rows[links:])
    assert watch.refused == ["nobody answers"]
