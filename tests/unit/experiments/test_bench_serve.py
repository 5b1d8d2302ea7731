"""summary.json and the names of `vllm bench serve`: all of vLLM's are there, and they mean what they mean there."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.running.bench_serve import VLLM_ARRAYS, VLLM_FIGURES, VLLM_SET_UP, arrays_of, set_up_of
from experiments.running.store import read_summary, read_table, write_run
from tests.support.made_runs import frame, lost, outcome, record, spec
from tests.support.paths import ROOT

VALID = {"verdict": "valid", "reasons": []}

VLLM = {
    *("date", "endpoint_type", "backend", "label", "model_id", "tokenizer_id", "num_prompts", "request_rate"),
    *("burstiness", "max_concurrency", "duration", "completed", "failed", "total_input_tokens", "total_output_tokens"),
    *("request_throughput", "request_goodput", "output_throughput", "total_token_throughput"),
    *("max_output_tokens_per_s", "max_concurrent_requests", "rtfx"),
    *(f"{what}_{name}_ms" for name in ("ttft", "tpot", "itl", "e2el") for what in ("mean", "median", "std", "p99")),
}
"""Of vllm/benchmarks/serve.py, with `--percentile-metrics ttft,tpot,itl,e2el`."""
DETAILS = {
    *("input_lens", "output_lens", "ttfts", "itls", "latencies", "start_times", "queue_times"),
    *("generated_texts", "errors"),
}
"""What its `--save-detailed` adds."""


def test_every_name_of_vllm_is_in_the_summary_and_details_where_asked_for(tmp_path: Path) -> None:
    plain = write_run(tmp_path / "plain", spec(), outcome(record(0)), VALID)
    assert set(plain) >= VLLM
    assert set(plain) & DETAILS == set()
    write_run(tmp_path / "detailed", spec(), outcome(record(0)), VALID, detailed=True)
    detailed = read_summary(tmp_path / "detailed")
    assert set(detailed) - set(plain) == DETAILS
    assert {name: detailed[name] for name in plain} == plain
    assert {*VLLM_SET_UP, *VLLM_FIGURES} >= VLLM
    assert set(VLLM_ARRAYS) == DETAILS


def test_the_benchmark_is_described() -> None:
    made = spec(workload__speedup=2, policy="cla")
    described = set_up_of(made, frame(record(0), record(1)))
    assert described["request_rate"] == pytest.approx(6.8)
    assert (described["num_prompts"], described["burstiness"], described["label"]) == (2, 1.0, "cla")
    assert (described["backend"], described["model_id"]) == ("netkv-analytic", "llama-3-70b")


def test_the_request_rate_of_a_trace_is_that_of_its_arrivals(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}\n')
    made = spec(workload__trace=str(trace))
    described = set_up_of(made, frame(*(record(number, timestamp_s=number / 4) for number in range(5))))
    assert (described["request_rate"], described["burstiness"]) == (4.0, None)
    assert set_up_of(made, frame(record(0)))["request_rate"] is None


def test_arrays_have_an_entry_a_request_and_zeros_for_what_did_not_complete() -> None:
    requests = frame(record(0, 100.0, output_length=3), lost(1, "rejected", "too long"), lost(2, "failed", ""))
    assert arrays_of(requests, {0: [10.0, 20.0]}) == {
        "input_lens": [100, 100, 100],
        "output_lens": [3, 0, 0],
        "ttfts": [0.1, 0.0, 0.0],
        "itls": [[0.01, 0.02], [], []],
        "latencies": [0.2, 0.0, 0.0],
        "start_times": [0.0, 1.0, 2.0],
        "queue_times": [0.0] * 3,
        "generated_texts": [""] * 3,
        "errors": ["", "too long", "failed"],
    }


def test_measured_gaps_of_an_emulated_run_are_its_itls(tmp_path: Path) -> None:
    made = outcome(record(0, 100.0, output_length=3), request_gaps_ms={0: [10.0, 20.0]})
    emulated = spec(world="emulated", emulation__datapath="user")
    write_run(tmp_path / "run", emulated, made, VALID, detailed=True)
    summary = read_summary(tmp_path / "run")
    assert summary["itls"] == [[0.01, 0.02]]
    assert summary["max_output_tokens_per_s"] == 3.0
    assert len(read_table(tmp_path / "run", "requests")) == 1


def test_every_name_is_on_the_page_of_results() -> None:
    page = (ROOT / "docs" / "reference" / "results.md").read_text(encoding="utf-8")
    plain = {name for name in (*VLLM_SET_UP, *VLLM_FIGURES, *VLLM_ARRAYS) if not name.endswith("_ms")}
    assert sorted(name for name in plain if f"`{name}`" not in page) == []
