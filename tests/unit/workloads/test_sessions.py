"""Sessions in a trace: turns that wait for the one before them (a closed loop)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads import Request, Trace, WorkloadError, arrange, convert_trace, read_trace, report_on_trace


def turn(session: Any, blocks: int, **when: Any) -> dict[str, Any]:
    ids = [1000 * len(str(session)) + block for block in range(blocks)]
    return {"session_id": session, **when, "input_length": 512 * blocks, "output_length": 16, "hash_ids": ids}


def write(place: Path, *records: dict[str, Any]) -> Path:
    place.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return place


TWO = (
    turn("a", 4, timestamp=1000),
    turn("a", 5, delay=250),
    turn("bb", 2, timestamp=1010),
    turn("bb", 3, delay_ms=50),
    turn("bb", 4, timestamp=None, delay=None),
)


def test_a_turn_after_a_delay_has_the_earliest_time_that_it_can_come_at(tmp_path: Path) -> None:
    found = read_trace(write(tmp_path / "t.jsonl", *TWO))
    assert [(one.session, one.timestamp_s, one.delay_s, one.input_length) for one in found] == [
        ("a", 1.0, None, 2048),
        ("a", 1.25, 0.25, 2560),
        ("bb", 1.01, None, 1024),
        ("bb", 1.06, 0.05, 1536),
        ("bb", 1.06, 0.0, 2048),
    ]


def test_how_many_turns_wait_is_said(tmp_path: Path) -> None:
    place = write(tmp_path / "t.jsonl", *TWO)
    with Trace(place) as trace:
        assert len(list(trace)) == 5
        waiting = f"{place}:2: delay: 3 of 5 requests are turns that wait for the answer to the one before"
        assert waiting in trace.warnings()
    report = report_on_trace(place)
    assert (report.requests, report.time_unit, report.grid_s) == (5, "ms", 0.0)
    assert report.span_s == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        ([turn("a", 1, delay=5)], ":1: timestamp: missing: the first turn of session 'a' needs one"),
        ([turn("a", 1, timestamp=0), turn("b", 1)], ":2: timestamp: missing: the first turn of session 'b'"),
        ([turn("a", 1, timestamp=0), turn("a", 1, delay=-1)], ":2: delay: -1 is outside 0"),
        ([turn("a", 1, timestamp=0), turn("a", 1, delay="5")], ":2: delay: '5' is not a number"),
        ([turn("a", 1, timestamp=0), turn("a", 1, delay_ms=1e9)], ":2: delay_ms: 1000000000.0 ms are more than a week"),
        ([turn(None, 1, delay=5)], ":1: timestamp: missing"),
    ],
)
def test_a_turn_that_no_time_can_be_told_of_is_refused_by_line(
    tmp_path: Path, records: list[dict[str, Any]], complaint: str
) -> None:
    with pytest.raises(WorkloadError) as raised:
        read_trace(write(tmp_path / "t.jsonl", *records))
    assert complaint in str(raised.value)


def test_sessions_whose_turns_all_have_a_time_wait_for_nothing(tmp_path: Path) -> None:
    found = read_trace(write(tmp_path / "t.jsonl", *(turn("a", 1 + k, timestamp=100 * k) for k in range(3))))
    assert [(one.timestamp_s, one.delay_s) for one in found] == [(0.0, None), (0.1, None), (0.2, None)]


def test_a_turn_waits_for_the_last_one_with_its_sessions_name(tmp_path: Path) -> None:
    """Also where a session begins anew at a time of its own, and would come between by its time."""
    late = [turn("a", 1, timestamp=0), turn("a", 2, delay=9000), turn("a", 1, timestamp=5000), turn("a", 2, delay=1000)]
    found = arrange(read_trace(write(tmp_path / "t.jsonl", *late)), "raw", 1.0, np.random.default_rng(0))
    assert [(one.session, one.timestamp_s, one.delay_s) for one in found] == [
        ("a", 0.0, None),
        ("a (line 3)", 5.0, None),
        ("a (line 3)", 6.0, 1.0),
        ("a", 9.0, 9.0),
    ]


def test_a_converted_trace_has_the_same_turns(tmp_path: Path) -> None:
    place = write(tmp_path / "t.jsonl", *TWO)
    convert_trace(place, tmp_path / "out.jsonl")
    told = [(one.session, round(one.timestamp_s, 6), one.delay_s, one.block_ids) for one in read_trace(place)]
    again = [(one.session, round(one.timestamp_s + 1, 6), one.delay_s, one.block_ids)
             for one in read_trace(tmp_path / "out.jsonl")]  # fmt: skip
    assert sorted(told) == sorted(again)


def sessions(count: int, turns: int) -> list[Request]:
    return [
        Request(k * turns + n, float(k), 512, 10, (), session=f"s{k}", delay_s=None if n == 0 else 2.0)
        for k in range(count)
        for n in range(turns)
    ]


@pytest.mark.parametrize("mode", ["raw", "jitter", "poisson"])
def test_a_waiting_turn_is_forecast_from_the_one_before(mode: str) -> None:
    found = arrange(sessions(5, 3), mode, 2.0, np.random.default_rng(1), service_s=lambda _: 0.5)
    at_s = {(one.session, one.delay_s is None): one.timestamp_s for one in found}
    for number in range(5):
        own = [one.timestamp_s for one in found if one.session == f"s{number}"]
        assert own == pytest.approx([own[0], own[0] + 0.5 + 1.0, own[0] + 2 * (0.5 + 1.0)])  # delays are sped up, too
        assert at_s[f"s{number}", True] == own[0]
    assert [one.request_id for one in found] == list(range(15))
    assert [one.timestamp_s for one in found] == sorted(one.timestamp_s for one in found)


def test_turns_change_nothing_for_those_that_arrive_by_themselves() -> None:
    alone = [one for one in sessions(8, 2) if one.delay_s is None]
    together, apart = (arrange(given, "poisson", 1.0, np.random.default_rng(3)) for given in (sessions(8, 2), alone))
    assert [one.timestamp_s for one in together if one.delay_s is None] == [one.timestamp_s for one in apart]


@pytest.mark.parametrize("mode", ["raw", "jitter", "poisson"])
def test_a_turn_that_was_cut_off_comes_in_the_order_of_time(mode: str) -> None:
    late = Request(0, 9.0, 512, 10, (), session="gone", delay_s=9.0)
    others = [Request(k, float(k), 512, 10 + k, ()) for k in range(1, 6)]
    found = arrange([late, *others], mode, 1.0, np.random.default_rng(0))
    assert [one.output_length for one in found] == [11, 12, 13, 14, 15, 10]


def test_a_turn_whose_session_was_left_out_arrives_by_itself() -> None:
    found = arrange(sessions(2, 2)[1:], "raw", 1.0, np.random.default_rng(0))
    assert [(one.session, one.delay_s) for one in found] == [("s0", None), ("s1", None), ("s1", 2.0)]
