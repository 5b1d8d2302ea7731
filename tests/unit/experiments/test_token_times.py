"""When tokens came: worked out from an analytic run's requests, it is what the run itself counted."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pytest

from experiments.running.store import render_run
from experiments.running.summary import peaks
from experiments.running.token_times import TokenTimes, simulated_gaps, simulated_times, times_of_gaps
from scenario import ServingSpec, WorkloadSpec
from serving import Outcome, RequestRecord
from tests.support.analytic_runs import STEP_S, one_pair, play, prompt, run, small
from tests.support.made_runs import frame, lost, record, spec


def table_of(outcome: Outcome) -> dict[str, list[Any]]:
    names = [item.name for item in fields(RequestRecord)]
    return {name: [asdict(made)[name] for made in outcome.requests] for name in names}


@pytest.mark.parametrize("slots", [64, 4], ids=["all fit", "they queue for the batch"])
def test_gaps_of_each_request_are_those_that_the_run_counted(slots: int) -> None:
    scenario = small(workload=WorkloadSpec(requests=60, speedup=3), serving=ServingSpec(batch_slots=slots))
    outcome = run(scenario)
    gaps_ms = simulated_gaps(table_of(outcome), scenario.model.step_s)
    counted = dict(zip(outcome.token_gaps_ms, outcome.token_gap_counts, strict=True))
    assert Counter(gap for gaps in gaps_ms.values() for gap in gaps) == counted
    for made in outcome.requests:
        assert len(gaps_ms[made.request_id]) == made.output_length - 1
        assert math.fsum(gaps_ms[made.request_id]) == pytest.approx(made.e2el_ms - made.ttft_ms, abs=1e-6)


def test_tokens_come_when_the_gaps_say() -> None:
    scenario = small(workload=WorkloadSpec(requests=60, speedup=3))
    requests = table_of(run(scenario))
    by_step = simulated_times(requests, scenario.model.step_s)
    one_by_one = times_of_gaps(requests, simulated_gaps(requests, scenario.model.step_s))
    order = np.argsort(by_step.at_s, kind="stable")
    at_s = np.repeat(by_step.at_s[order], by_step.tokens[order])
    assert at_s == pytest.approx(np.sort(one_by_one.at_s), abs=1e-6)
    assert len(at_s) == sum(requests["output_length"])


def test_two_requests_by_hand() -> None:
    """Steps of half a second, one request after the other."""
    scenario = one_pair()
    outcome = play(scenario, [prompt(0, 0.0, 3), prompt(1, 100.0, 1)])
    requests = table_of(outcome)
    assert simulated_gaps(requests, scenario.model.step_s) == {0: [STEP_S * 1e3] * 2, 1: []}
    first_s = outcome.requests[0].ttft_ms / 1e3
    times = simulated_times(requests, scenario.model.step_s)
    expected_s = [first_s, first_s + 0.5, first_s + 1.0, 100.0 + outcome.requests[1].ttft_ms / 1e3]
    assert times.at_s == pytest.approx(expected_s)
    assert times.tokens.tolist() == [1, 1, 1, 1]


def test_a_run_without_a_decoded_request_has_no_tokens() -> None:
    none = {name: list(column) for name, column in frame(lost(0, "rejected", "too long")).items()}
    assert simulated_gaps(none, lambda _: 0.03) == {}
    assert simulated_times(none, lambda _: 0.03).at_s.tolist() == []
    assert times_of_gaps(none, {}).at_s.tolist() == []


def test_measured_gaps_give_the_instants() -> None:
    times = times_of_gaps(frame(record(0, 100.0), record(1, 200.0), lost(2, "failed", "reset")), {0: [10.0, 20.0]})
    assert times.at_s == pytest.approx([0.1, 0.11, 0.13])


def test_peaks_by_hand() -> None:
    """Two requests overlap; the third comes at the very instant at which the second ends."""
    requests = frame(
        record(0, timestamp_s=10.0, e2el_ms=2500.0),
        record(1, timestamp_s=11.0, e2el_ms=2000.0),
        record(2, timestamp_s=13.0, e2el_ms=1000.0),
    )
    times = TokenTimes(np.array([10.2, 10.9, 11.0, 12.5]), np.array([1, 1, 4, 1]))
    assert peaks(requests, times) == {"max_output_tokens_per_s": 4.0, "max_concurrent_requests": 2}
    assert peaks(requests, None)["max_output_tokens_per_s"] is None


def test_a_lost_request_before_the_first_that_completed_adds_no_peak() -> None:
    """It was decoded until its instance died, before the first arrival that counts."""
    requests = frame(lost(0, "failed", "killed"), record(1, timestamp_s=5.0, e2el_ms=1000.0))
    times = TokenTimes(np.array([0.5, 0.6, 5.5]), np.array([0, 0, 2]))
    assert peaks(requests, times) == {"max_output_tokens_per_s": 2.0, "max_concurrent_requests": 1}


@pytest.mark.parametrize("kind", ["decode_worker_killed", "prefill_worker_killed"])
def test_of_a_run_that_lost_a_worker_nobody_knows_when_tokens_came(kind: str) -> None:
    """The table of requests does not tell when those that were lost left the batch."""

    def most_tokens(target: str, at_s: float) -> Any:
        made = spec(workload__requests=12, faults=[{"at_s": at_s, "kind": kind, "target": target}])
        files = render_run(made, run(made.scenario), {"verdict": "valid", "reasons": []})
        return json.loads(files["summary.json"])["max_output_tokens_per_s"]

    target = "h0" if kind.startswith("prefill") else "h2"
    assert most_tokens(target, 1.0) is None
    assert most_tokens(target, 1e6) > 0, "the fault never began"
