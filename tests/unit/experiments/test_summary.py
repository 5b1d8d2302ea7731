"""The figures of a run and the comparison of two, worked by hand."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pandas as pd
import pytest

from experiments.running.summary import slo_met, snapshots_used, summarise
from serving import RequestRecord
from tests.support.made_runs import SLO, frame, lost, record

TIMES = ("ttft_ms", "tpot_ms", "itl_ms", "e2el_ms")
VLLM = [f"{what}_{name}" for name in TIMES for what in ("mean", "median", "p90", "p99")]
VLLM += ["completed", "failed", "request_throughput", "request_goodput"]
OURS = ["slo_attainment", "kv_transfer_ms", "decision_us", "oracle_mape"]


SIX = (
    record(0, 100.0, 10.0),
    record(1, 200.0, 20.0, kv_bytes=0, kv_transfer_ms=0.0, predicted_kv_transfer_ms=0.0),
    record(2, 300.0, 30.0, predicted_kv_transfer_ms=30.0),  # its first token came too late
    record(3, 200.0, 60.0, predicted_kv_transfer_ms=20.0),  # its tokens came too slowly
    lost(4, "failed", "reset"),
    lost(5, "rejected", "too long"),
)


def test_snapshots_are_counted_by_when_they_were_measured() -> None:
    """Three decisions on a snapshot of 1.000 s, two on one of 0.2 s later, one without any."""
    decided_s = [1.25, 1.5, 1.000001, 1.25, 7.2, 3.0]
    age_ms = [250.0, 500.0, 0.001, 50.0, 6000.0, math.inf]
    assert snapshots_used({"decided_s": decided_s, "oracle_age_ms": age_ms}) == 2
    assert snapshots_used({"decided_s": [], "oracle_age_ms": []}) == 0


def test_a_run_by_hand() -> None:
    found = summarise(frame(*SIX), [10.0, 20.0, 30.0, 100.0], 10.0, SLO)
    expected = {
        "completed": 4,
        "failed": 1,
        "rejected": 1,
        "duration": 10.0,
        "request_throughput": 0.4,
        "request_goodput": 0.2,
        "output_throughput": 4.4,
        "total_input_tokens": 400,
        "total_output_tokens": 44,
        "slo_attainment": 2 / 6,
        "mean_ttft_ms": 200.0,
        "median_ttft_ms": 200.0,
        "p90_ttft_ms": 270.0,  # 0.9 of the way from rank 0 to rank 3: 200 + 0.7 x 100
        "p99_ttft_ms": 297.0,
        "std_ttft_ms": math.sqrt(5000),
        "mean_tpot_ms": 30.0,
        "median_tpot_ms": 25.0,
        "mean_itl_ms": 40.0,
        "median_itl_ms": 25.0,
        "mean_e2el_ms": 200.0 + 300.0,
        "kv_transfer_ms": 15.0,
        "decision_us": 4.0,
        "oracle_mape": (5 / 20 + 10 / 20 + 0) / 3,
        "mean_oracle_age_ms": None,  # there never was a sample
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_the_names_are_vllms_and_the_contracts() -> None:
    assert set(VLLM + OURS) <= set(summarise(frame(*SIX), [], 10.0, SLO))


@pytest.mark.parametrize(
    "records", [(), (lost(0, "failed", "reset"), lost(1, "rejected", "too long"))], ids=["none", "all lost"]
)
def test_what_has_no_data_is_none_and_json_can_hold_it(records: tuple[RequestRecord, ...]) -> None:
    table = frame(*records) if records else pd.DataFrame([asdict(record(0))]).iloc[:0]
    found = summarise(table, [], 0.0, SLO)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["completed"], found["mean_ttft_ms"], found["request_throughput"]) == (0, None, None)
    assert found["slo_attainment"] == (0.0 if records else None)


def test_as_in_vllm_an_answer_of_one_token_has_no_time_per_output_token() -> None:
    found = summarise(frame(record(0, tpot_ms=30.0), record(1, tpot_ms=math.nan, output_length=1)), [], 1.0, SLO)
    assert found["mean_tpot_ms"] == 30.0
    assert found["slo_attainment"] == 1.0


def test_the_slo_is_met_at_its_very_limit_and_by_completed_requests_only() -> None:
    at_limit = record(0, 250.0, 50.0)
    beyond = record(1, 250.1, 50.0)
    late_failure = record(2, 1.0, 1.0, status="failed")
    assert slo_met(frame(at_limit, beyond, late_failure), SLO).tolist() == [True, False, False]
