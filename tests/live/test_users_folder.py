"""The emulated world in a folder of a user's own, which holds the user's policy and folders with the names of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.foreign_folders import POLICY, fill
from tests.support.live.small_fabric import ON_A_SMALL_FABRIC

pytestmark = [pytest.mark.live, pytest.mark.untimed]

NETKV = Path(sys.executable).with_name("netkv")
DEADLINE_S = 240
SHORT = (*ON_A_SMALL_FABRIC, "--requests", "3", "--set", "workload.max_output_tokens=4")


def test_sandbox_controller_and_workers_are_ours(tmp_path: Path) -> None:
    done = subprocess.run(
        [NETKV, "run", *SHORT, "--policy", POLICY, "--out", "new"],
        cwd=fill(tmp_path), capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr  # 1: a busy machine spoils the verdict, not the run
    summary = json.loads((tmp_path / "new/summary.json").read_text())
    assert summary["completed"] == 3, done.stdout


def test_the_process_of_a_cluster_finds_the_users_policy(tmp_path: Path) -> None:
    options = ("--policies", f"round_robin,{POLICY}", "--refresh", "1", "--jobs", "2", "--out", "new")
    done = subprocess.run(
        [NETKV, "sweep", "staleness", *SHORT, *options, "--set", "seed=1"],
        cwd=fill(tmp_path), capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    runs = sorted(place.name for place in (tmp_path / "new/runs").iterdir())
    assert len(runs) == 2, done.stderr
