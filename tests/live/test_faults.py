"""Faults on real packets: what breaks is broken, what is not hit goes on, and the next run finds a whole fabric."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.support.live.killing_policy import VICTIM
from tests.support.live.small_fabric import ON_A_SMALL_FABRIC
from tests.support.paths import ROOT
from tests.support.run_histories import assert_no_violation

pytestmark = pytest.mark.live

NETKV = Path(sys.executable).with_name("netkv")
SMALL = (
    *("--requests", "60", "--congestion", "none", "--refresh", "0.5", "--set", "workload.speedup=2"),
    *("--set", "workload.max_output_tokens=40", "--set", "workload.max_input_tokens=8000"),
)
"""About ten seconds of requests, so that every fault below meets some."""

DEADLINE_S = 200
FRAME_BYTES = 1514


def command(out: Path, *more: str) -> list[str]:
    return [str(NETKV), "run", *SMALL, *more, "--out", str(out)]


def faulty_run(place: Path, faults: list[dict[str, Any]], *more: str) -> Path:
    plan, out = place / "faults.json", place / "run"
    plan.write_text(json.dumps(faults))
    made = command(out, "--policy", "round_robin", "--faults", str(plan), *more)
    done = subprocess.run(made, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode in (0, 1), done.stderr  # 1: complete, but this machine was too busy to trust it
    return out


def table(run: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(run / f"{name}.parquet")


def test_links_telemetry_and_the_controller_break_and_are_whole_again(tmp_path: Path) -> None:
    faults: list[dict[str, Any]] = [
        {"at_s": 1.0, "kind": "link_down", "target": "tor0>agg1", "for_s": 3.0},
        {"at_s": 1.5, "kind": "link_degraded", "target": "tor2>agg2", "for_s": 2.0, "share": 0.5},
        {"at_s": 2.0, "kind": "switch_down", "target": "core3", "for_s": 2.0},
        {"at_s": 4.5, "kind": "controller_killed", "for_s": 2.0},
    ]
    run = faulty_run(tmp_path, faults, "--requests", "140")
    rows = table(run, "faults")
    assert rows["kind"].tolist() == [fault["kind"] for fault in faults]
    assert (rows["at_s"] - [fault["at_s"] for fault in faults]).abs().max() < 0.5
    assert set(table(run, "requests")["status"]) == {"completed"}
    links = table(run, "links")
    down = links[(links["link"] == "tor0>agg1") & links["time_s"].between(1.6, 3.9)]
    assert len(down) >= 2
    assert down["bytes"].nunique() == 1
    decisions = table(run, "decisions")
    assert (decisions["decided_s"].between(5.2, 6.4) & decisions["oracle_age_ms"].gt(600)).any()
    assert (decisions["decided_s"].gt(7.0) & decisions["oracle_age_ms"].lt(5000)).any()
    evidence = json.loads((run / "manifest.json").read_text())["evidence"]
    assert evidence["calibration"][1] > 0.5 * evidence["calibration"][0]
    assert_no_violation(run)


@pytest.mark.parametrize("retry", [False, True])
def test_workers_are_killed_and_hang_and_the_run_keeps_its_record(tmp_path: Path, retry: bool) -> None:
    faults: list[dict[str, Any]] = [
        {"at_s": 2.0, "kind": "decode_worker_killed", "target": "h2", "for_s": 2.0},
        {"at_s": 3.0, "kind": "prefill_worker_killed", "target": "h0", "for_s": 2.0},
        {"at_s": 4.0, "kind": "worker_hung", "target": "h6", "for_s": 1.0},
    ]
    run = faulty_run(tmp_path, faults, "--set", f"serving.retry={retry}", *ON_A_SMALL_FABRIC)
    rows, requests = table(run, "faults"), table(run, "requests")
    failed = {number for ids in rows["failed_ids"] for number in ids}
    retried = {number for ids in rows["retried_ids"] for number in ids}
    assert set(requests[requests["status"] == "failed"]["request_id"]) == failed
    assert len(requests) == 60
    if retry:
        assert failed <= retried
    else:
        assert retried == set()
        assert failed != set()
    decisions = table(run, "decisions")
    assert not (decisions["decode_id"].eq(2) & decisions["decided_s"].between(2.05, 3.95)).any()
    assert (decisions["decode_id"].eq(2) & decisions["decided_s"].gt(5.0)).any()
    assert_no_violation(run)


def test_a_worker_that_hangs_for_good_is_given_up_at_the_requests_deadline_and_not_the_runs(tmp_path: Path) -> None:
    hung: list[dict[str, Any]] = [{"at_s": 3.0, "kind": "worker_hung", "target": "h6"}]
    retry = ("--set", "serving.retry.attempts=2", "--set", "serving.retry.timeout_s=2")
    run = faulty_run(tmp_path, hung, *retry, *ON_A_SMALL_FABRIC)
    requests, manifest = table(run, "requests"), json.loads((run / "manifest.json").read_text())
    retried = manifest["evidence"]["retried_ids"]
    assert retried
    assert set(requests["status"]) == {"completed"}
    assert not (requests["request_id"].isin(retried) & requests["decode_id"].eq(6)).any()
    assert requests["ttft_ms"].max() < 30_000
    assert_no_violation(run)


def test_a_machine_that_pauses_does_nothing_meanwhile_and_goes_on(tmp_path: Path) -> None:
    run = faulty_run(tmp_path, [{"at_s": 2.0, "kind": "machine_paused", "for_s": 2.0}], *ON_A_SMALL_FABRIC)
    (row,) = table(run, "faults").to_dict("records")
    begins_s, ends_s = row["at_s"], row["until_s"]
    assert 2.0 <= begins_s < 2.5
    assert 4.0 <= ends_s < 4.5
    requests, decisions = table(run, "requests"), table(run, "decisions")
    assert set(requests["status"]) == {"completed"}
    came_s, ended_s = requests["timestamp_s"], requests["timestamp_s"] + requests["e2el_ms"] / 1e3
    assert not decisions["decided_s"].between(begins_s + 0.01, ends_s - 0.01).any()
    assert not ended_s.between(begins_s + 0.1, ends_s - 0.01).any()
    meanwhile = came_s.between(begins_s, ends_s)
    assert meanwhile.sum() > 3
    assert (ended_s[meanwhile] > ends_s - 0.01).all()
    assert set(requests.loc[(came_s < ends_s) & (ended_s > begins_s), "request_id"]) == set(row["request_ids"])
    assert_no_violation(run)


def test_a_lossy_link_loses_its_share_of_frames_and_no_request(tmp_path: Path) -> None:
    lossy = {"at_s": 0.0, "kind": "link_lossy", "target": "srv1>h2", "loss": 0.1}
    run = faulty_run(tmp_path, [lossy], "--requests", "40", *ON_A_SMALL_FABRIC)
    requests, evidence = table(run, "requests"), json.loads((run / "manifest.json").read_text())["evidence"]
    assert set(requests["status"]) == {"completed"}
    lost = evidence["lost_frames"] - evidence["queue_drops"]
    passed = evidence["link_bytes"]["srv1>h2"] / FRAME_BYTES
    assert 0.05 < lost / (lost + passed) < 0.2
    assert evidence["calibration"][1] > 0.5 * evidence["calibration"][0]
    assert_no_violation(run)


def test_a_worker_that_dies_unplanned_costs_its_requests_and_not_the_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    made = command(out, "--policy", "tests.support.live.killing_policy:KillsAWorker", *ON_A_SMALL_FABRIC)
    done = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1, done.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["verdict"] == "invalid"
    assert manifest["evidence"]["worker_deaths"] == [f"the decode worker on {VICTIM} ended by itself"]
    requests = table(out, "requests")
    failed = requests[requests["status"] == "failed"]
    assert set(failed["error"]) <= {f"the decode worker on {VICTIM} ended by itself"} or failed.empty
    assert (requests["status"] == "completed").sum() > 40


def test_a_run_whose_switches_died_ends_in_a_line_and_not_at_its_deadline(tmp_path: Path) -> None:
    out = tmp_path / "run"
    made = command(out, "--policy", "tests.support.live.killing_policy:KillsTheSwitches", *ON_A_SMALL_FABRIC, "--quiet")
    done = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr.splitlines() == ["netkv: ovs-vswitchd has ended: nothing forwards any more"]
    assert [*tmp_path.iterdir()] == []
