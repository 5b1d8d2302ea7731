"""A closed loop in emulation: the next turn of a session is sent when the answer before it and its delay are over."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from scenario import Scenario
from testbed.emulated_world import EmulatedWorld
from testbed.emulation import EmulationSpec

pytestmark = [pytest.mark.live, pytest.mark.untimed]

DELAY_S = 0.4


def test_a_turn_comes_a_delay_after_the_last_token_of_the_one_before(tmp_path: Path) -> None:
    with (tmp_path / "t.jsonl").open("w") as file:
        for session in range(4):
            for turn in range(3):
                when = {"delay": DELAY_S * 1e3} if turn else {"timestamp": 300 * session}
                size = {"input_length": 512 * (2 + turn), "output_length": 4 + session}
                ids = [100 * session + block for block in range(2 + turn)]
                file.write(f"{json.dumps({'session_id': session, **when, **size, 'hash_ids': ids})}\n")
    fields = {"workload": {"trace": tmp_path / "t.jsonl"}, "congestion": {"kind": "none"}, "policy": "netkv_static"}
    scenario = Scenario.model_validate(fields)
    with EmulatedWorld(scenario, EmulationSpec(datapath="user")) as world:
        records = sorted(world.run(scenario).requests, key=lambda record: record.input_length)
    assert [record.status for record in records] == ["completed"] * 12
    for session in range(4):
        turns = [record for record in records if record.output_length == 4 + session]
        for one, then in pairwise(turns):
            waited_s = then.timestamp_s - (one.timestamp_s + one.e2el_ms / 1e3)
            assert waited_s == pytest.approx(DELAY_S, abs=1e-6)  # due then; how late it was issued is evidence
