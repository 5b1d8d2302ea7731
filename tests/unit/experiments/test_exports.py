"""`netkv export`: each format is well-formed and says what the run's folder says, of both worlds."""

from __future__ import annotations

import io
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.exporting import EXPORTS, export_run
from experiments.running import StoreError, open_world, read_summary, read_table, write_run
from tests.support.made_runs import decided, lost, outcome, record, spec

VALID = {"verdict": "valid", "reasons": []}


@pytest.fixture(scope="module")
def analytic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the analytic world."""
    out = tmp_path_factory.mktemp("analytic") / "run"
    made = spec(workload__requests=50, workload__speedup=2, seed=3)
    with open_world(made) as world:
        write_run(out, made, world.run(made.scenario), VALID, detailed=True)
    return out


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the emulated world writes it: the sender starts 5 ms after the decision, two requests are lost."""
    out = tmp_path_factory.mktemp("emulated") / "run"
    made = outcome(
        record(0, 100.0, output_length=3, e2el_ms=120.0),
        record(1, 200.0, decode_id=3),
        lost(2, "rejected", "too long"),
        lost(3, "failed", "reset"),
        request_gaps_ms={0: [10.0, 10.0], 1: [10.0] * 10},
    )
    made.decisions = [
        {**decided(one), "transfer_started_s": one.timestamp_s + 0.008} for one in made.requests if one.decode_id >= 0
    ]
    write_run(out, spec(world="emulated", emulation__datapath="user"), made, VALID, detailed=True)
    return out


@pytest.fixture(params=["analytic", "emulated"])
def folder(request: pytest.FixtureRequest) -> Path:
    place: Path = request.getfixturevalue(request.param)
    return place


def loaded(folder: Path, form: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        export_run(folder, form), parse_constant=lambda name: pytest.fail(f"{name} is not JSON")
    )
    return found


# A timeline


def test_every_event_of_the_trace_is_well_formed(folder: Path) -> None:
    trace = loaded(folder, "chrome-trace")
    assert trace["displayTimeUnit"] == "ms"
    needed = {"X": {"ts", "dur", "args"}, "M": {"args"}, "s": {"ts", "id", "cat"}, "f": {"ts", "id", "cat", "bp"}}
    for event in trace["traceEvents"]:
        assert set(event) >= {"ph", "name", "pid", "tid"} | needed[event["ph"]]
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert event.get("ts", 0) >= 0
        assert event.get("dur", 1) > 0
    named = {event["pid"] for event in trace["traceEvents"] if event["name"] == "process_name"}
    assert {event["pid"] for event in trace["traceEvents"]} == named
    threads = {(one["pid"], one["tid"]) for one in trace["traceEvents"] if one["name"] == "thread_name"}
    assert threads >= {(one["pid"], one["tid"]) for one in trace["traceEvents"] if one["ph"] == "X"}


def test_slices_of_a_request_join_up_and_make_up_its_ttft_and_its_end_to_end_latency(folder: Path) -> None:
    slices = defaultdict(list)
    for event in loaded(folder, "chrome-trace")["traceEvents"]:
        if event["ph"] == "X":
            slices[event["tid"]].append(event)
    requests = read_table(folder, "requests").set_index("request_id")
    done = requests[requests["status"] == "completed"]
    assert set(slices) >= set(done.index)
    for number, row in done.iterrows():
        chain = slices[number]
        ends_us = [one["ts"] + one["dur"] for one in chain]
        assert [one["ts"] for one in chain[1:]] == pytest.approx(ends_us[:-1], abs=1e-3)
        assert chain[0]["ts"] == pytest.approx(row.timestamp_s * 1e6, abs=1e-3)
        took_ms = {one["name"]: one["dur"] / 1e3 for one in chain}
        assert math.fsum(took_ms.values()) == pytest.approx(row.e2el_ms, abs=1e-6)
        assert math.fsum(took_ms.values()) - took_ms.get("decode", 0.0) == pytest.approx(row.ttft_ms, abs=1e-6)
        for stage, column in (("queue", "queue_ms"), ("prefill", "prefill_ms"), ("KV transfer", "kv_transfer_ms")):
            assert took_ms.get(stage, 0.0) == pytest.approx(row[column], abs=1e-6)
        at = {one["name"]: one["pid"] - 1 for one in chain}
        assert at["prefill"] == row.prefill_id
        assert at["first step"] == row.decode_id


def test_what_passes_between_decision_and_sender_has_a_slice_of_its_own(emulated: Path) -> None:
    chain = [one for one in loaded(emulated, "chrome-trace")["traceEvents"] if one["ph"] == "X" and one["tid"] == 0]
    took_ms = [(one["name"], one["dur"] / 1e3) for one in chain]
    assert [name for name, _ in took_ms] == [
        *("queue", "prefill", "dispatch", "KV transfer", "admission", "first step", "decode"),
    ]
    assert [took for _, took in took_ms] == pytest.approx([1, 2, 5, 20, 3, 69, 20])


def test_an_arrow_leads_from_each_transfer_to_its_decode_instance(folder: Path) -> None:
    events = loaded(folder, "chrome-trace")["traceEvents"]
    starts = {one["id"]: one for one in events if one["ph"] == "s"}
    ends = {one["id"]: one for one in events if one["ph"] == "f"}
    assert starts.keys() == ends.keys()
    assert all(starts[number]["ts"] <= ends[number]["ts"] for number in starts)
    table = read_table(folder, "requests").set_index("request_id")
    assert {number: end["pid"] - 1 for number, end in ends.items()} == {n: table.loc[n, "decode_id"] for n in ends}


# vLLM


def test_the_vllm_file_has_vllms_names_and_the_summarys_figures(folder: Path) -> None:
    found, summary = loaded(folder, "vllm"), read_summary(folder)
    assert {name for name in found if name != "itls" and found[name] != summary[name]} <= {"date", "failed"}
    assert found["completed"] + found["failed"] == found["num_prompts"]
    for gaps, summarised in zip(found["itls"], summary["itls"], strict=True):
        assert gaps == pytest.approx(summarised)
    assert len(found["date"]) == len("20260101-000000")


def test_a_folder_without_arrays_gives_those_of_the_analytic_world_all_the_same(tmp_path: Path) -> None:
    made = spec(workload__requests=10)
    with open_world(made) as world:
        run = world.run(made.scenario)
    write_run(tmp_path / "plain", made, run, VALID)
    write_run(tmp_path / "detailed", made, run, VALID, detailed=True)
    plain, detailed = (loaded(tmp_path / name, "vllm") for name in ("plain", "detailed"))
    assert {**plain, "date": ""} == {**detailed, "date": ""}


def test_a_folder_of_an_earlier_version_gives_every_name(emulated: Path, tmp_path: Path) -> None:
    old = {"total_token_throughput", "num_prompts", "max_concurrent_requests", "request_rate", "itls", "rtfx"}
    for place in emulated.iterdir():
        (tmp_path / place.name).write_bytes(place.read_bytes())
    summary = {name: value for name, value in read_summary(emulated).items() if name not in old}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    found = loaded(tmp_path, "vllm")
    assert found.keys() == loaded(emulated, "vllm").keys()
    assert found["total_token_throughput"] == (200 + 14) / 10
    assert found["itls"] == [[]] * 4


@pytest.mark.parametrize("form", EXPORTS)
def test_a_damaged_folder_is_refused_in_a_line(form: str, emulated: Path, tmp_path: Path) -> None:
    for place in emulated.iterdir():
        (tmp_path / place.name).write_bytes(place.read_bytes())
    read_table(emulated, "requests").drop(columns="tier").to_parquet(tmp_path / "requests.parquet")
    with pytest.raises(StoreError, match=r"requests\.parquet is damaged: tier is missing"):
        export_run(tmp_path, form)
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(StoreError, match=r"summary\.json is damaged: duration is missing"):
        export_run(tmp_path, form)


# AIPerf


def test_the_aiperf_file_has_its_names_units_and_distributions(folder: Path) -> None:
    found, requests = loaded(folder, "aiperf"), read_table(folder, "requests")
    done = requests[requests["status"] == "completed"]
    for name, column in (("time_to_first_token", "ttft_ms"), ("request_latency", "e2el_ms")):
        block = found[name]
        assert set(block) == {
            *("unit", "avg", "min", "max", "std", "count", "sum"),
            *("p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99"),
        }
        assert (block["unit"], block["count"]) == ("ms", len(done))
        assert block["avg"] == pytest.approx(done[column].mean())
        assert block["p95"] == pytest.approx(np.percentile(done[column], 95))
        assert block["std"] == pytest.approx(done[column].std(ddof=0))
    assert found["inter_token_latency"]["avg"] == pytest.approx(done["tpot_ms"].mean())
    assert found["input_sequence_length"]["unit"] == "tokens"
    assert found["output_token_throughput_per_user"]["unit"] == "tokens/sec/user"
    assert found["request_count"] == {"unit": "requests", "avg": float(len(done))}
    assert found["request_throughput"]["unit"] == "requests/sec"
    assert found["error_request_count"]["avg"] == len(requests) - len(done)


def test_errors_are_counted_by_their_message(emulated: Path) -> None:
    assert loaded(emulated, "aiperf")["error_summary"] == [
        {"error_details": {"type": "rejected", "message": "too long"}, "count": 1},
        {"error_details": {"type": "failed", "message": "reset"}, "count": 1},
    ]
    assert loaded(emulated, "aiperf")["time_to_second_token"]["avg"] == 10.0


# CSV


def test_the_csv_file_has_the_rows_and_columns_of_requests(folder: Path) -> None:
    read = pd.read_csv(io.StringIO(export_run(folder, "csv")))
    table = read_table(folder, "requests")
    assert list(read) == [*table, "transfer_started_s", "slo_met"]
    assert read["ttft_ms"].to_numpy() == pytest.approx(table["ttft_ms"].to_numpy(), nan_ok=True)
    assert read["decode_id"].tolist() == table["decode_id"].tolist()


# The verb


@pytest.mark.parametrize("form", EXPORTS)
def test_a_run_without_a_single_completed_request_is_exported(form: str, tmp_path: Path) -> None:
    write_run(tmp_path / "run", spec(), outcome(lost(0, "rejected", "too long"), decisions=[]), VALID)
    assert export_run(tmp_path / "run", form)


def test_it_is_written_to_a_file_or_to_standard_output(analytic: Path, tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["export", str(analytic), "--format", "csv"])
    assert said.exit_code == 0
    out = tmp_path / "deep" / "requests.csv"
    wrote = CliRunner().invoke(app, ["export", str(analytic), "--format", "csv", "--out", str(out)])
    assert wrote.exit_code == 0
    assert wrote.output == f"{out}: 0.0 MB\n"
    assert out.read_text() == said.output
