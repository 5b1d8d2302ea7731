"""A closed loop in the analytic world: a turn comes its delay after the last token of the one before, no sooner."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from experiments.running import RunSpec, verdict_of
from scenario import Scenario
from serving import RequestRecord
from simulator import AnalyticWorld

ONE_PAIR = {"pods": 1, "racks_per_pod": 1, "servers_per_rack": 2, "gpus_per_instance": 8}


def run(place: Path, sessions: int, turns: int, delay_ms: float, **changes: Any) -> dict[str, list[RequestRecord]]:
    """The turns of each session, in order."""
    with place.open("w") as file:
        for session in range(sessions):
            for turn in range(turns):
                when = {"delay": delay_ms} if turn else {"timestamp": 100 * session}
                size = {"input_length": 512 * (2 + turn), "output_length": 10 + session}
                ids = [100 * session + block for block in range(2 + turn)]
                file.write(f"{json.dumps({'session_id': f's{session}', **when, **size, 'hash_ids': ids})}\n")
    fields = {"workload": {"trace": place, "arrivals": "raw"}, "congestion": {"kind": "none"}, **changes}
    scenario = Scenario.model_validate(fields)
    with AnalyticWorld(scenario) as world:
        records = world.run(scenario).requests
    found: dict[str, list[RequestRecord]] = {f"s{session}": [] for session in range(sessions)}
    for record in sorted(records, key=lambda record: record.input_length):
        found[f"s{record.output_length - 10}"].append(record)
    return found


def test_a_turn_comes_a_delay_after_the_last_token_of_the_one_before(tmp_path: Path) -> None:
    found = run(tmp_path / "t.jsonl", sessions=6, turns=4, delay_ms=250, fabric=ONE_PAIR)
    for turns in found.values():
        assert [record.status for record in turns] == ["completed"] * 4
        for one, then in pairwise(turns):
            assert then.timestamp_s == pytest.approx(one.timestamp_s + one.e2el_ms / 1e3 + 0.25, abs=1e-9)


def test_a_loaded_system_slows_its_own_arrivals_down(tmp_path: Path) -> None:
    """That is what makes a loop closed: the same sessions on a fabric that serves them slowly come later."""

    def last(rate_bps: float) -> float:
        fabric = {**ONE_PAIR, "nic_rate_bps": rate_bps}
        found = run(tmp_path / "t.jsonl", sessions=6, turns=4, delay_ms=250, fabric=fabric)
        return max(turns[-1].timestamp_s for turns in found.values())

    assert last(2e9) > last(200e9) + 0.5


def test_turns_after_one_that_was_not_answered_end_with_it(tmp_path: Path) -> None:
    """The third turn alone does not fit: it is rejected, and the fourth never comes."""
    serving = {"kv_memory_tokens": 1600, "prefix_cache_tokens": 0}
    found = run(tmp_path / "t.jsonl", sessions=2, turns=4, delay_ms=50, fabric=ONE_PAIR, serving=serving)
    for turns in found.values():
        assert [record.status for record in turns] == ["completed", "completed", "rejected", "failed"]
        assert turns[3].error == f"request {turns[2].request_id}, a turn before it, was not answered"


def test_a_run_that_outlasts_its_background_traffic_is_suspect(tmp_path: Path) -> None:
    """The forecast knows no queue; here sixty long prompts wait for one prefill instance."""
    place = tmp_path / "t.jsonl"
    with place.open("w") as file:
        for session in range(30):
            for turn in range(2):
                when = {"delay": 0} if turn else {"timestamp": session}
                file.write(
                    f"{json.dumps({'session_id': session, **when, 'input_length': 60_000, 'output_length': 2})}\n"
                )
    fields = {
        "world": "analytic", "workload": {"trace": place, "arrivals": "raw"},
        "fabric": {"pods": 2, "racks_per_pod": 1, "servers_per_rack": 2, "gpus_per_instance": 8},
        "congestion": {"kind": "constant", "utilisation": 0.1},
    }  # fmt: skip
    spec = RunSpec.model_validate(fields)
    with AnalyticWorld(spec.scenario) as world:
        verdict = verdict_of(spec, world.run(spec.scenario))
    assert verdict["verdict"] == "suspect"
    assert "turns of sessions came after the background traffic had ended" in verdict["reasons"][0]
