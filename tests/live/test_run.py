"""`netkv run` and `netkv sweep` on real packets, end to end, through the command line as a user types it."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.comparing import agreement, read_connections
from experiments.running.sweep import read_sweep
from tests.support.live.speed import made_at_most_twice, speed_of_a_run
from tests.support.run_histories import assert_no_violation

pytestmark = pytest.mark.live

NETKV = Path(sys.executable).with_name("netkv")
SMALL = ("--set", "workload.max_output_tokens=8", "--set", "workload.speedup=4")
DEADLINE_S = 150


def netkv(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([NETKV, *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty requests in Mooncake's format, gzipped; every second one repeats the prompt before it."""
    place = tmp_path_factory.mktemp("trace") / "trace.jsonl.gz"
    with gzip.open(place, "wt") as lines:
        for k in range(40):
            blocks = [0, *range(100 * (k // 2 + 1), 100 * (k // 2 + 1) + 7)]
            record = {"timestamp": 1000 * (k // 4), "input_length": 4096, "output_length": 20, "hash_ids": blocks}
            lines.write(json.dumps(record) + "\n")
    return place


@pytest.fixture(scope="module")
def run(trace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of NetKV-Full on that trace."""
    place = tmp_path_factory.mktemp("run")

    def make(attempt: int) -> Path:
        out = place / f"run{attempt}"
        done = netkv("run", "--trace", trace, "--policy", "netkv_full", "--refresh", "0.5", *SMALL, "--out", out)
        assert done.returncode in (0, 1), done.stderr  # 1: complete, but this machine was too busy to trust it
        return out

    return made_at_most_twice(make, reasons_of)


def reasons_of(run: Path) -> list[str]:
    """Why the verdict of a run is not `valid`."""
    reasons: list[str] = json.loads((run / "manifest.json").read_text())["verdict_reasons"]
    return reasons


def reasons_of_any(sweep: Path) -> list[str]:
    return [reason for run in sorted(sweep.glob("runs/*")) for reason in reasons_of(run)]


def test_a_run_completes_every_request_of_the_trace(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["completed"], summary["failed"], summary["rejected"]) == (40, 0, 0)


def test_its_parts_add_up_to_the_time_to_first_token(run: Path) -> None:
    requests = pd.read_parquet(run / "requests.parquet")
    parts = requests[["queue_ms", "prefill_ms", "kv_transfer_ms", "admission_ms"]].sum(axis=1)
    rest = requests["ttft_ms"] - parts  # control messages and the first decode step of 30 ms
    assert (rest > 20).all()
    with speed_of_a_run(reasons_of(run)):
        assert rest.median() < 80


def test_what_was_sent_is_what_was_not_cached(run: Path) -> None:
    requests = pd.read_parquet(run / "requests.parquet")
    missing = requests["input_length"] - requests["cached_tokens"]
    assert (requests["kv_bytes"] == missing * 327_680).all()
    assert (requests["cached_tokens"] >= 3584).sum() >= 5  # repeated prompts meet their own prefix again


def test_bytes_on_the_wire_are_the_scaled_blobs_and_their_headers(run: Path) -> None:
    decisions = pd.read_parquet(run / "decisions.parquet")
    rate_scale = json.loads((run / "manifest.json").read_text())["spec"]["emulation"]["rate_scale"]
    blobs = (decisions["kv_bytes"] / rate_scale).round()
    headers = (decisions["wire_bytes"] - blobs)[blobs > 0]
    assert headers.nunique() == 1  # a fixed header on each of four stripes
    assert 0 < headers.iloc[0] <= 4 * 64


def test_the_idle_fabric_was_measured_by_tier_before_the_run(run: Path) -> None:
    evidence = json.loads((run / "manifest.json").read_text())["evidence"]
    round_trip_ms, transfer_ms = evidence["idle_round_trip_ms"], evidence["idle_transfer_ms"]
    assert list(round_trip_ms) == list(transfer_ms) == ["1", "2", "3"]
    assert 0 < round_trip_ms["1"] < round_trip_ms["3"] < 30
    assert all(0 < round_trip_ms[tier] < 2 * transfer_ms[tier] for tier in round_trip_ms)


def test_every_stripe_has_a_source_port_of_its_own(run: Path) -> None:
    decisions = pd.read_parquet(run / "decisions.parquet")
    moved = decisions[decisions["kv_bytes"] > 0]
    assert all(len(set(ports)) == 4 for ports in moved["source_ports"])


def test_no_view_is_older_than_the_knob_and_a_poll(run: Path) -> None:
    ages_s = pd.read_parquet(run / "requests.parquet")["oracle_age_ms"] / 1e3
    assert ages_s.min() >= 0
    with speed_of_a_run(reasons_of(run)):
        assert ages_s.median() <= 0.5
        assert ages_s.quantile(0.9) <= 0.5 + 0.1 + 0.2


def test_the_links_table_has_every_link_and_sees_the_transfers(run: Path) -> None:
    links = pd.read_parquet(run / "links.parquet")
    assert links["link"].nunique() == 80
    grown = links.groupby("link")["bytes"].agg(np.ptp)
    assert grown[grown.index.str.match(r"h\d+>srv")].sum() > 0.9 * 30 * 3584 * 327_680 * 0.5


def test_its_records_are_a_history_that_could_have_happened(run: Path) -> None:
    assert_no_violation(run)


def test_a_sweep_runs_every_policy_on_one_fabric_and_draws_its_figure(trace: Path, tmp_path: Path) -> None:
    codes: list[int] = []

    def make(attempt: int) -> Path:
        out = tmp_path / f"sweep{attempt}"
        done = netkv(
            *("sweep", "staleness", "--trace", trace, "--requests", "12", "--seed", "3", "--refresh", "0.5"),
            *("--congestion", "hotspot", "--policies", "round_robin,cla,netkv_static,netkv_full", *SMALL),
            *("--out", out, "--json"),
        )
        assert done.returncode in (0, 1), done.stderr
        codes.append(done.returncode)
        return out

    out = made_at_most_twice(make, reasons_of_any)
    requests = read_sweep(out)
    assert requests.groupby("policy").size().to_dict() == dict.fromkeys(
        ("round_robin", "cla", "netkv_static", "netkv_full"), 12
    )
    evidence = [json.loads(path.read_text())["evidence"] for path in out.glob("runs/*/manifest.json")]
    bringups = {told["bringup_s"] for told in evidence}
    assert len(bringups) == 1  # one fabric served them all
    timing = json.loads((out / "timing.json").read_text())
    assert timing["runs"] == 4
    assert timing["bring_up_s"] >= bringups.pop()
    assert timing["replaying_s"] == pytest.approx(sum(told["wall_s"]["replaying"] for told in evidence), abs=0.01)
    with speed_of_a_run(reasons_of_any(out)):
        assert timing["around_s"] / 4 < 6.0  # of a run of twenty seconds, as real sweeps have them, less than a third
    if codes[-1] == 0:
        assert {"staleness.png", "staleness.svg", "staleness.csv"} <= {path.name for path in out.iterdir()}
    assert_no_violation(out)


def test_two_policies_of_one_seed_are_compared_on_the_same_paths(tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    policies = ("--policies", "round_robin,cla", "--refresh", "1", "--seed", "1")
    traffic = ("--congestion", "constant", "--set", "congestion.connections=8")
    done = netkv("sweep", "staleness", "--requests", "16", *policies, *traffic, *SMALL, "--out", out)
    assert done.returncode in (0, 1), done.stderr
    one, other = (read_connections(folder) for folder in sorted(out.glob("runs/*")))
    shared = agreement(one, other)
    assert shared["connections"] >= 100
    assert shared["share"] >= 0.99


def test_a_controller_that_never_answers_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    command = [str(NETKV), "run", "--requests", "2", "--set", "emulation.bringup_deadline_s=2"]
    command += ["--out", str(tmp_path / "run")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        controller = wait_for_descendant(running.pid, "controller.launch")
        os.kill(controller, signal.SIGSTOP)
        _, complaint = running.communicate(timeout=DEADLINE_S)
    assert running.returncode == 2
    assert complaint.startswith("netkv: the controller did not finish within 2 s")
    assert len(complaint.splitlines()) == 1
    assert not list(tmp_path.iterdir())
    assert not Path(f"/proc/{controller}").exists()


def wait_for_descendant(ancestor: int, wanted: str) -> int:
    """The process below `ancestor` whose command line holds `wanted`, as soon as there is one."""
    until_s = time.monotonic() + 30
    while time.monotonic() < until_s:
        for process, parent in parents().items():
            line = commandline(process)
            while parent not in (0, 1, ancestor):
                parent = parents().get(parent, 0)
            if parent == ancestor and wanted in line:
                return process
    raise AssertionError(f"no {wanted} below process {ancestor}")


def parents() -> dict[int, int]:
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    return found


def commandline(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_the_shell_reads_commands_from_a_pipe() -> None:
    done = subprocess.run(
        [NETKV, "shell", "--set", "fabric.pods=1"],
        input="h0 ping -c 1 -W 5 h7\n",
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1 packets transmitted, 1 received" in done.stdout + done.stderr
