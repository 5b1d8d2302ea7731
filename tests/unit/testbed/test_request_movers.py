"""The movers of the emulated world without workers: what these would report, and what is kept of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from testbed.fabric_up import FabricUp
from testbed.request_movers import RequestMovers
from testbed.run_clock import RunClock
from tests.support.analytic_runs import one_pair, prompt


def test_the_gaps_between_tokens_are_kept_by_request() -> None:
    """By a clock that is dilated twice, so that three stamps 60 and 80 ms apart are gaps of 30 and 40 ms."""
    scenario = one_pair()
    fabric, roles = scenario.build()
    up = SimpleNamespace(fabric=fabric, spec=SimpleNamespace(rate_scale=1e12, deadline_s=1.0))
    clock = RunClock(2.0, monotonic=lambda: 2.0)
    told: list[str] = []

    def tell(role: str, instance: int, command: dict[str, Any]) -> None:
        told.append(f"{role} {instance}: {command['do']}")

    request = prompt(0, 0.0, 3)
    movers = RequestMovers(cast(FabricUp, up), scenario, roles, [request], clock, tell)
    movers.life.arrive(request)
    for event, facts in (
        ("prefill_started", {"at_s": 0.0}),
        ("prefilled", {"at_s": 1.0, "started_s": 0.0}),
        ("received", {"at_s": 3.0}),
        ("admitted", {"at_s": 3.0}),
        ("first_token", {"at_s": 4.0}),
        ("finished", {"at_s": 4.14, "token_s": [4.0, 4.06, 4.14]}),
    ):
        movers.handlers[event]({"request_id": 0, **facts})
    assert told == ["prefill 0: prefill", "decode 1: expect"]
    assert movers.request_gaps_ms.keys() == {0}
    assert movers.request_gaps_ms[0] == pytest.approx([30.0, 40.0])
    record = movers.life.records[0]
    assert (record.status, record.ttft_ms, record.e2el_ms) == ("completed", 2000.0, pytest.approx(2070.0))
    assert movers.done.is_set()
