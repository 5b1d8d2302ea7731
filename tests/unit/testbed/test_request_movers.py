"""The movers of the emulated world without workers: what these would report, and what is kept of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from scheduler import PrefixIndex
from serving import STRIDE
from testbed.calibration import CALIBRATION_ID
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
    (closed,) = movers.closed
    assert (closed.request_id, movers.life.decisions) == (0, {})
    assert closed.decision is not None
    assert closed.decision["decode_id"] == 1
    assert closed.gaps_ms == pytest.approx([30.0, 40.0])
    record = movers.life.records[0]
    assert (record.status, record.ttft_ms, record.e2el_ms) == ("completed", 2000.0, pytest.approx(2070.0))
    assert movers.done.is_set()


def test_what_is_reported_of_an_attempt_that_is_over_is_not_passed_on() -> None:
    scenario = one_pair(serving={"retry": True})
    fabric, roles = scenario.build()
    up = SimpleNamespace(
        fabric=fabric,
        spec=SimpleNamespace(rate_scale=1.0, deadline_s=1.0),
        address=lambda instance: f"10.0.0.{instance}",
    )
    told: list[dict[str, Any]] = []
    request = prompt(0, 0.0, 3)
    movers = RequestMovers(
        cast(FabricUp, up),
        scenario,
        roles,
        [request],
        RunClock(1.0, monotonic=lambda: 2.0),
        lambda _role, _instance, command: told.append(command),
    )
    movers.life.arrive(request)
    movers.handlers["prefilled"]({"request_id": 0, "at_s": 1.0, "started_s": 0.0})
    broken = {"request_id": 0, "error": "connection reset"}
    movers.handlers["transfer_failed"](broken)
    assert [command["do"] for command in told] == ["prefill", "expect", "transfer", "cancel", "expect", "transfer"]
    assert [command["request_id"] for command in told] == [0, 0, 0, 0, STRIDE, STRIDE]
    movers.handlers["transfer_failed"](broken)
    movers.handlers["received"]({"request_id": 0, "at_s": 3.0})
    assert not movers.life.done
    movers.handlers["transfer_failed"]({**broken, "request_id": STRIDE})
    assert (movers.life.done, movers.life.records[0].error) == (True, "connection reset")


def test_with_an_overlap_the_transfer_is_ordered_when_its_prefill_starts() -> None:
    scenario = one_pair(serving={"overlap": 0.75})
    fabric, roles = scenario.build()
    spec = SimpleNamespace(rate_scale=1e12, deadline_s=1.0)  # so that no byte would be left of the blob
    up = SimpleNamespace(fabric=fabric, spec=spec, address=lambda instance: f"h{instance}")
    told: list[dict[str, Any]] = []
    clock = RunClock(1.0, monotonic=lambda: 2.0)
    request = prompt(0, 0.0, 3)
    movers = RequestMovers(
        cast(FabricUp, up), scenario, roles, [request], clock, lambda _role, _instance, order: told.append(order)
    )
    movers.life.arrive(request)
    movers.handlers["prefill_started"]({"request_id": 0, "at_s": 1.0})
    assert [order["do"] for order in told] == ["prefill", "expect", "transfer"]
    assert (told[2]["bytes"], told[2]["overlap"]) == (1, 0.75)
    movers.handlers["prefilled"]({"request_id": 0, "at_s": 3.0, "started_s": 1.0})
    assert len(told) == 3
    assert movers.life.records[0].prefill_ms == 2000


def test_second_attempts_are_told_from_calibration() -> None:
    assert 1_000_000 < STRIDE < CALIBRATION_ID / 1000


def test_what_a_decode_instance_holds_at_first_need_not_move() -> None:
    """One block of 512 tokens is there, so that the instance is told to expect nothing of it."""
    scenario = one_pair()
    fabric, roles = scenario.build()
    spec = SimpleNamespace(rate_scale=1.0, deadline_s=1.0)
    up = SimpleNamespace(fabric=fabric, spec=spec, address=lambda instance: f"h{instance}")
    held = PrefixIndex(1, 10)
    held.insert(0, (7,))
    expected: list[int] = []

    def tell(role: str, instance: int, command: dict[str, Any]) -> None:
        expected.extend([command["bytes"]] if command["do"] == "expect" else [])

    requests = [prompt(0, 0.0, block=7), prompt(1, 0.0, block=8)]
    clock = RunClock(1.0, monotonic=lambda: 2.0)
    movers = RequestMovers(cast(FabricUp, up), scenario, roles, requests, clock, tell, prefixes=held)
    for request in requests:
        movers.life.arrive(request)
        movers.life.prefilled(request.request_id, 1.0, 1.0)
    assert expected == [0, 512 * 1_000_000]
    assert [movers.life.records[number].cached_tokens for number in (0, 1)] == [512, 0]
