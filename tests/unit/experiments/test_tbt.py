"""The scheduler's work and the time between tokens: what a decision costs is never paid by a decode step."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.comparing.tbt import tbt_change
from experiments.running.run_spec import make_spec
from experiments.running.store import json_text
from experiments.running.worlds import open_world
from scenario import ModelSpec
from serving import Outcome

SLOW = """
import time

class Nearest:
    pause_s = 0.0
    def select(self, request, candidates, view):
        time.sleep(self.pause_s)
        return candidates.best(candidates.tier)

class Slow(Nearest):
    pause_s = 0.005
"""


def run(policy: str, **changes: object) -> Outcome:
    spec = make_spec({}, {"world": "analytic", "policy": policy, **changes})
    with open_world(spec) as world:
        return world.run(spec.scenario)


def table(outcome: Outcome) -> pd.DataFrame:
    return pd.DataFrame(outcome.requests)


def test_a_slow_decision_delays_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five milliseconds a decision change nothing in the analytic world, to the last digit."""
    (tmp_path / "slow_policies.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    quick, slow = (run(f"slow_policies:{name}", **{"workload.requests": 50}) for name in ("Nearest", "Slow"))
    columns = ["request_id", "ttft_ms", "tpot_ms", "e2el_ms"]
    assert table(quick)[columns].equals(table(slow)[columns])
    assert quick.token_gap_counts == slow.token_gap_counts


@pytest.mark.parametrize("baseline", ["round_robin", "cla"])
def test_what_netkv_adds_to_the_time_between_tokens_is_its_larger_batches(baseline: str) -> None:
    """It prefers the near instances, so their batches are larger and their steps longer (docs/explanation/sweeps.md).

    The step table rises by 0.27 ms a request, and a batch grows by one or two.
    """
    with_netkv, without = (run(policy, **{"workload.requests": 600}) for policy in ("netkv_full", baseline))
    change, _, _ = tbt_change(table(with_netkv), table(without))
    assert change.requests > 550
    assert 0.3 < change.change_ms < 2.0
    gap_ms = [
        float(np.average(outcome.token_gaps_ms, weights=outcome.token_gap_counts)) for outcome in (with_netkv, without)
    ]
    assert set(with_netkv.token_gaps_ms) <= {ModelSpec().step_s(batch) * 1e3 for batch in range(1, 65)}
    assert gap_ms[0] - gap_ms[1] == pytest.approx(change.change_ms, abs=0.8)


def test_answers_of_one_token_have_no_say_and_alone_leave_no_figure() -> None:
    columns = ["request_id", "output_length", "status", "tpot_ms"]
    alone = pd.DataFrame([(0, 1, "completed", math.nan), (1, 1, "completed", math.nan)], columns=columns)
    change, _, _ = tbt_change(alone, alone)
    assert change.requests == 0
    assert json.loads(json_text(asdict(change)))["change_ms"] is None


def test_the_change_is_paired_by_request() -> None:
    columns = ["request_id", "output_length", "status", "tpot_ms"]
    one = pd.DataFrame([(0, 5, "completed", 31.0), (1, 5, "completed", 40.0), (2, 5, "failed", 99.0)], columns=columns)
    other = pd.DataFrame(
        [(1, 5, "completed", 39.0), (0, 5, "completed", 30.5), (2, 5, "completed", 1.0)], columns=columns
    )
    change, with_ms, without_ms = tbt_change(one, other)
    assert (change.requests, change.change_ms) == (2, 0.75)
    assert (with_ms - without_ms).tolist() == [0.5, 1.0]
    assert np.isclose(change.with_ms, 35.5)
