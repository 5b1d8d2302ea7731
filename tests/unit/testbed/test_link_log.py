"""The log of the links: bytes from t = 0 on, whatever the controller counted before or forgot since."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

from testbed.link_log import LinkLog
from testbed.oracle_client import OracleClient, OracleUnavailableError
from testbed.port_watch import PortWatch


class Answers:
    """A client whose documents are these, one after another; None: there is no controller."""

    def __init__(self, *counted: tuple[float, int] | None) -> None:
        self._counted = list(counted)

    def fetch(self) -> dict[str, Any]:
        found = self._counted.pop(0)
        if found is None:
            raise OracleUnavailableError("no controller")
        sampled_s, carried_bytes = found
        link = {"utilisation": 0.5, "bytes": carried_bytes}
        return {"sampled_monotonic_s": sampled_s, "links": {"tor0>agg0": link}}


def log_of(monkeypatch: Any, *counted: tuple[float, int] | None) -> LinkLog:
    """In bytes of a system twice as fast; the run begins at 10 s."""
    monkeypatch.setattr("testbed.link_log.SAMPLE_S", 0.0)
    log = LinkLog(cast(OracleClient, Answers(*counted)), lambda at_s: at_s - 10.0, 2.0)
    with suppress(IndexError):  # no answer is left
        asyncio.run(log.watch())
    return log


def logged(monkeypatch: Any, *counted: tuple[float, int] | None) -> list[tuple[float, float]]:
    """Time and bytes of each row."""
    return [(row["time_s"], row["bytes"]) for row in log_of(monkeypatch, *counted).rows()]


def test_bytes_count_from_the_first_sample_after_the_start(monkeypatch: Any) -> None:
    assert logged(monkeypatch, (9.0, 50), (11.0, 100), (11.0, 100), (12.0, 130)) == [(1.0, 0.0), (2.0, 60.0)]


def test_a_controller_that_was_started_anew_counts_on(monkeypatch: Any) -> None:
    rows = logged(monkeypatch, (11.0, 100), (12.0, 130), None, (15.0, 20), (16.0, 25))
    assert rows == [(1.0, 0.0), (2.0, 60.0), (5.0, 100.0), (6.0, 110.0)]


def test_samples_take_no_memory_until_the_rows_are_asked_for(monkeypatch: Any) -> None:
    """Rows of an hour on 100 links take 200 MB, the bare numbers 12 MB."""
    monkeypatch.setattr("testbed.link_log.SAMPLE_S", 0.0)
    links = {f"tor{number}>agg0": {"utilisation": number / 100, "bytes": 1_000_000 + number} for number in range(100)}
    taken_bytes: list[int] = []

    def fetch() -> dict[str, Any]:
        taken_bytes.append(tracemalloc.get_traced_memory()[0])
        if len(taken_bytes) > 300:
            raise IndexError
        return {"sampled_monotonic_s": 1.0 * len(taken_bytes), "links": links}

    log = LinkLog(cast(OracleClient, SimpleNamespace(fetch=fetch)), lambda at_s: at_s, 1.0)
    tracemalloc.start()
    with suppress(IndexError):
        asyncio.run(log.watch())
    tracemalloc.stop()
    rows = log.rows()
    assert len(rows) == 300 * 100
    assert rows[-1] == {"time_s": 300.0, "link": "tor99>agg0", "utilisation": 0.99, "bytes": 0.0}
    assert (taken_bytes[-1] - taken_bytes[100]) / (200 * 100) < 1


class Ports:
    """Ports that carry a byte a second, watched from 11.5 s on, and how often they were asked for a sum of all."""

    asked = 0

    def watched(self, at_s: float) -> bool:
        return at_s >= 11.5

    def carried_bytes(self, from_s: float, to_s: float) -> float:
        self.asked += 1
        return to_s - from_s


def test_an_hour_of_samples_asks_the_ports_once(monkeypatch: Any) -> None:
    """Each such question goes through all that the ports were watched."""
    ports = Ports()
    log = log_of(monkeypatch, *((11.0 + k, 100 + 2 * k) for k in range(100)))
    assert (log.against(cast(PortWatch, ports)), ports.asked) == (1.0, 1)
