"""Mooncake's transfer engine itself, an extra (`make routers`): between two namespaces, and in whole runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from testbed import engine_installed, engine_problem
from tests.support.live.cable import FAR, cable
from tests.support.live.engine_pair import PORT, STRIPES, EnginePair
from tests.support.live.small_fabric import ON_A_SMALL_FABRIC
from tests.support.run_histories import assert_no_violation
from topologies import Shape
from workers.mooncake_engine import HEADER_BYTES
from workers.privileges import NOBODY

pytestmark = [pytest.mark.live, pytest.mark.optional]

RATE_BPS = 40e6
SHAPE = Shape(RATE_BPS, queue="fair")
SLOT = 1 << 20
NETKV = Path(sys.executable).with_name("netkv")
SHORT = (
    *("--requests", "40", "--congestion", "none", "--set", "workload.speedup=2"),
    *("--set", "workload.max_output_tokens=20", "--set", "workload.max_input_tokens=8000"),
)


@pytest.fixture(scope="module", autouse=True)
def engine() -> None:
    if not engine_installed():
        pytest.fail("mooncake is not installed: pip install '.[engines]', or `make routers`", pytrace=False)
    if problem := engine_problem():
        pytest.fail(f"mooncake is half installed: {problem}", pytrace=False)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[EnginePair]:
    with cable(SHAPE, SHAPE) as ends, EnginePair(tmp_path, ends, "mooncake", slot_bytes=SLOT) as made:
        made.connect()
        yield made


@pytest.mark.parametrize("size", [1, 500_000, 3 * SLOT + 1])
def test_a_blob_arrives_whole_over_the_connections_of_the_engine(pair: EnginePair, size: int) -> None:
    """`received` is sent only where the checksum of every piece holds."""
    moved = pair.move(size)
    assert moved.received["bytes"] == moved.sent["bytes"] == size
    assert len(moved.sent["source_ports"]) == len(set(moved.sent["source_ports"])) == STRIPES
    assert moved.sent["target_port"] not in (0, PORT)
    headers = moved.sent["wire_bytes"] - size
    assert headers % HEADER_BYTES == 0
    assert headers >= HEADER_BYTES
    assert 0 < moved.sent["least_round_trip_s"] < 1
    assert moved.took_s < 8 * size / RATE_BPS + 1.0


def test_connections_are_kept_from_transfer_to_transfer(pair: EnginePair) -> None:
    assert len({tuple(pair.move(size).sent["source_ports"]) for size in (100, 100_000, 400_000)}) == 1


def test_a_worker_that_uses_the_engine_is_nobody(pair: EnginePair) -> None:
    for worker in (pair.prefill, pair.decode):
        text = Path(f"/proc/{worker.first['pid']}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        assert set(fields["Uid"].split()) == {str(NOBODY)}
        assert fields["NoNewPrivs"] == "1"


def test_a_decode_worker_that_is_killed_in_mid_transfer_fails_it_and_its_successor_serves(pair: EnginePair) -> None:
    number = pair.start(20 * SLOT)
    time.sleep(0.5)  # of four seconds
    pair.decode.process.kill()
    said = pair.prefill.wait_for("transfer_failed", request_id=number)
    assert said["error"].startswith((f"control stream to {FAR}:{PORT}: ", "piece "))
    pair.decode.process.wait()
    pair.start_decode()
    assert pair.move(300_000).received["bytes"] == 300_000


def test_a_route_that_is_gone_fails_a_transfer_by_its_deadline_and_the_next_goes_through(
    pair: EnginePair, tmp_path: Path
) -> None:
    pair.move(1000)
    near = pair._ends[0]
    subprocess.run([*near, "ip", "link", "set", "eth0", "down"], check=True)
    number = pair.start(100_000, deadline_s=1.5)
    said = pair.prefill.wait_for("transfer_failed", request_id=number)
    assert said["error"] == "deadline of 1.5 s passed"
    subprocess.run([*near, "ip", "link", "set", "eth0", "up"], check=True)
    assert pair.move(100_000).received["bytes"] == 100_000


def run_with_engine(out: Path, *more: str) -> Path:
    command = [str(NETKV), "run", *SHORT, "--set", "serving.engine=mooncake", *more, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode in (0, 1), done.stderr  # 1: complete, but this machine was too busy to trust it
    return out


def test_a_run_has_the_records_that_one_with_sockets_has(live_machine: None, tmp_path: Path) -> None:
    run = run_with_engine(tmp_path / "run", "--policy", "round_robin", *ON_A_SMALL_FABRIC)
    requests = pd.read_parquet(run / "requests.parquet")
    decisions = pd.read_parquet(run / "decisions.parquet")
    assert set(requests["status"]) == {"completed"}
    moved = decisions[decisions["kv_bytes"] > 0]
    assert all(1 <= len(ports) <= STRIPES for ports in moved["source_ports"])
    assert all(number >= 0 for paths in moved["paths"] for number in paths)
    evidence = json.loads((run / "manifest.json").read_text())["evidence"]
    assert evidence.get("worker_complaints", []) == []
    assert evidence["clean_end"]["clean"]
    assert_no_violation(run)


@pytest.mark.parametrize("retry", [False, True])
def test_a_run_in_which_workers_are_killed_keeps_its_records(live_machine: None, tmp_path: Path, retry: bool) -> None:
    faults: list[dict[str, Any]] = [
        {"at_s": 1.0, "kind": "decode_worker_killed", "target": "h2", "for_s": 2.0},
        {"at_s": 2.0, "kind": "prefill_worker_killed", "target": "h0", "for_s": 2.0},
    ]
    run = faulty_run(tmp_path, faults, *ON_A_SMALL_FABRIC, "--set", f"serving.retry={retry}")
    assert bool(failed_ids(run)) != retry


def test_links_that_break_and_a_worker_that_hangs_for_a_second_cost_time_and_no_request(
    live_machine: None, tmp_path: Path
) -> None:
    faults: list[dict[str, Any]] = [
        {"at_s": 1.0, "kind": "link_down", "target": "tor0>agg1", "for_s": 3.0},
        {"at_s": 1.5, "kind": "link_degraded", "target": "tor2>agg2", "for_s": 2.0, "share": 0.5},
        {"at_s": 2.0, "kind": "switch_down", "target": "core3", "for_s": 2.0},
        {"at_s": 4.5, "kind": "worker_hung", "target": "h6", "for_s": 1.0},
    ]
    run = faulty_run(tmp_path, faults, "--requests", "100")
    rows = pd.read_parquet(run / "faults.parquet")
    assert rows["kind"].tolist() == [fault["kind"] for fault in faults]
    assert failed_ids(run) == set()


def faulty_run(tmp_path: Path, faults: list[dict[str, Any]], *more: str) -> Path:
    plan = tmp_path / "faults.json"
    plan.write_text(json.dumps(faults))
    return run_with_engine(tmp_path / "run", "--policy", "round_robin", "--faults", str(plan), *more)


def failed_ids(run: Path) -> set[int]:
    """The requests that failed, all of which a fault's record names. Fails where a record contradicts another."""
    faults, requests = pd.read_parquet(run / "faults.parquet"), pd.read_parquet(run / "requests.parquet")
    failed = {number for ids in faults["failed_ids"] for number in ids}
    assert set(requests[requests["status"] == "failed"]["request_id"]) == failed
    assert set(requests["status"]) <= {"completed", "failed"}
    assert_no_violation(run)
    return failed
