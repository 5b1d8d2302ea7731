"""Evidence of a run on real packets: its paths, its verdict on purpose made invalid, and its comparison."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from experiments.running.run_spec import make_spec
from testbed.emulated_world import EmulatedWorld
from testbed.verdict import SWITCH_WAIT_INVALID, judge

pytestmark = pytest.mark.live

NETKV = Path(sys.executable).with_name("netkv")
SHORT = (
    *("--policy", "round_robin", "--set", "workload.max_output_tokens=4"),
    *("--set", "workload.max_input_tokens=6000", "--set", "workload.speedup=2"),
)
LOSSY = (
    *("--set", "emulation.queue=fifo", "--set", "emulation.rate_scale=2500"),
    *("--set", "emulation.burst_ms=3", "--set", "emulation.paced=false"),
)
"""One queue a port that a hot spot fills: with a queue a connection nothing is lost, and losses are looked at here."""

DEADLINE_S = 120


def netkv(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([NETKV, *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("truth") / "run"
    shown = ("--pcap", "h0>srv0", "--pcap", "tor0>agg0", "--out", out)
    done = netkv("run", "--requests", "24", *SHORT, *LOSSY, *shown)
    assert done.returncode in (0, 1), done.stderr  # 1: complete, but this machine was too busy to trust it
    return out


def test_every_connection_of_a_run_has_a_path_and_every_decision_those_of_its_stripes(run: Path) -> None:
    paths, decisions = pd.read_parquet(run / "paths.parquet"), pd.read_parquet(run / "decisions.parquet")
    assert (paths["path"] >= 0).all()
    assert (paths["path"] < paths["equal_paths"]).all()
    assert (paths["owner"] == "transfer").sum() == decisions["source_ports"].map(len).sum()
    assert (decisions["paths"].map(len) == decisions["source_ports"].map(len)).all()


def test_what_crossed_the_links_of_choice_is_what_their_connections_carried(run: Path) -> None:
    """The switches' counters know nothing of paths: only the true ones make the sums of every link agree."""
    evidence = json.loads((run / "manifest.json").read_text())["evidence"]
    assert 0 < evidence["paths_mismatch"] < 0.15


def test_compare_says_how_far_the_fluid_answer_is_from_these_packets(run: Path) -> None:
    done = netkv("compare", run, "--json", "--invalid")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    replay = report["replay"]
    assert replay["transfers"] == 24
    assert 0 <= replay["kv_transfer"]["median_abs_error"] <= replay["kv_transfer"]["p90_abs_error"]
    assert abs(replay["makespan_error"]) < 0.5
    assert report["independent"]["runs"][0]["requests"] == 24


def test_paths_prints_the_spread_and_the_collisions(run: Path) -> None:
    done = netkv("paths", run)
    assert done.returncode == 0, done.stderr
    assert "tier 3:" in done.stdout
    assert "had a choice" in done.stdout


def captured(run: Path) -> pd.DataFrame:
    done = netkv("paths", run, "--pcap", "--json")
    assert done.returncode == 0, done.stderr
    return pd.DataFrame(json.loads(done.stdout)["captures"])


def test_every_frame_that_was_captured_can_be_read_by_others(run: Path) -> None:
    told = json.loads((run / "manifest.json").read_text())["evidence"]["captures"]
    assert [capture["link"] for capture in told] == ["h0>srv0", "tor0>agg0"]
    for capture in told:
        file = run / "pcap" / capture["file"]
        read = subprocess.run(["tcpdump", "-n", "-r", file], capture_output=True, text=True, check=True)
        assert len(read.stdout.splitlines()) == capture["frames"] > 1000
        assert capture["dropped"] == 0


def test_a_capture_at_the_sender_counts_what_its_kernel_says_it_sent_again(run: Path) -> None:
    """Two counts that know nothing of each other, by connection: scapy's reader, and TCP_INFO of the sender."""
    rows = captured(run)
    sender = rows[(rows["link"] == "h0>srv0") & (rows["owner"] == "transfer")]
    assert len(sender) >= 8
    assert (sender["retransmitted"] == sender["retransmitted_by_sender"]).all()
    elsewhere = rows[rows["link"] == "tor0>agg0"]
    assert (elsewhere["retransmitted"] <= elsewhere["retransmitted_by_sender"]).all()
    assert rows["retransmitted"].sum() > 0  # a hot spot fills the queues of 100 frames


def test_round_trips_are_between_an_idle_path_and_full_queues_all_the_way(run: Path) -> None:
    rows = captured(run)
    rows = rows[(rows["link"] == "h0>srv0") & (rows["owner"] == "transfer")]
    rtt_ms = rows["rtt_ms"]
    assert (rtt_ms.notna() | (rows["retransmitted"] > 0)).all()  # a short blob may be in flight during its only loss
    assert rtt_ms.notna().sum() > len(rows) / 2
    assert rtt_ms.min() > 0.1
    assert rtt_ms.max() < 6 * 100 * 1514 * 8 / 40e6 * 1e3  # six queues of 100 frames at 40 Mbit/s


def test_full_queues_account_for_what_was_lost_and_that_for_what_was_sent_again(run: Path) -> None:
    evidence = json.loads((run / "manifest.json").read_text())["evidence"]
    assert 0 < evidence["queue_drops"] <= evidence["lost_frames"] + 1
    assert evidence["retransmitted"] == pytest.approx(evidence["lost_frames"], rel=0.25, abs=100)


@contextmanager
def starved(share: float) -> Iterator[None]:
    """Every processor is taken from everybody for a share of the time."""
    hogs = []
    try:
        for cpu in os.sched_getaffinity(0):
            command = [sys.executable, "-m", "tests.support.live.hog", str(cpu), str(share)]
            hogs.append(subprocess.Popen(command, stdout=subprocess.PIPE))
            assert hogs[-1].stdout is not None
            assert hogs[-1].stdout.readline() == b"ready\n"
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.communicate()


def test_a_starved_machine_makes_a_run_invalid_because_its_switches_wait() -> None:
    changes = {"workload.requests": 8, "workload.max_output_tokens": 4, "policy": "cla"}
    always = {"congestion.kind": "shuffle"}  # so that the switches have work all the time
    spec = make_spec({}, {**changes, **always, "workload.max_input_tokens": 4000})
    with EmulatedWorld(spec.scenario, spec.emulation) as world, starved(0.6):
        outcome = world.run(spec.scenario)
    judged = judge(spec.scenario, outcome)
    assert judged["verdict"] == "invalid"
    assert any("the switches waited for a processor" in reason for reason in judged["reasons"])
    assert outcome.evidence["switch_wait_mean"] > SWITCH_WAIT_INVALID
    assert outcome.evidence["timer_lag_p99_ms"] > 30


def test_links_beyond_this_machine_make_a_run_invalid_for_that_reason(tmp_path: Path) -> None:
    done = netkv(
        *("run", "--requests", "4", *SHORT, "--congestion", "none", "--set", "emulation.rate_scale=50", "--json"),
        *("--out", tmp_path / "run"),
    )
    assert done.returncode == 1, done.stderr
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["verdict"] == "invalid"
    reasons = manifest["verdict_reasons"]  # a machine that is this busy may be late as well
    assert any("an idle path gave" in reason and "raise emulation.rate_scale" in reason for reason in reasons), reasons
