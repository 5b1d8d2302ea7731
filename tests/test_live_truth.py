"""Evidence of a run on real packets: its paths, its verdict on purpose made invalid, and its comparison."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.live

NETKV = Path(sys.executable).with_name("netkv")
SHORT = (
    *("--policy", "round_robin", "--set", "workload.max_output_tokens=4"),
    *("--set", "workload.max_input_tokens=6000", "--set", "workload.speedup=2"),
)
DEADLINE_S = 120


def netkv(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([NETKV, *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("truth") / "run"
    done = netkv("run", "--requests", "24", *SHORT, "--out", out)
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
    assert report["free"]["runs"][0]["requests"] == 24


def test_paths_prints_the_spread_and_the_collisions(run: Path) -> None:
    done = netkv("paths", run)
    assert done.returncode == 0, done.stderr
    assert "tier 3:" in done.stdout
    assert "had a choice" in done.stdout


def test_links_beyond_this_machine_make_a_run_invalid_for_that_reason(tmp_path: Path) -> None:
    done = netkv(
        *("run", "--requests", "4", *SHORT, "--congestion", "none", "--set", "emulation.rate_scale=50", "--json"),
        *("--out", tmp_path / "run"),
    )
    assert done.returncode == 1, done.stderr
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["verdict"], manifest["verdict_worst"]) == ("invalid", "calibration")
    assert "raise emulation.rate_scale" in manifest["verdict_reasons"][0]
