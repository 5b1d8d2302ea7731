"""Policies on real packets: a slow one delays no decode step, and a broken one leaves the record of its run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.support.live.small_fabric import ON_A_SMALL_FABRIC

pytestmark = pytest.mark.live

NETKV = Path(sys.executable).with_name("netkv")
DEADLINE_S = 150
PAUSE_S = 0.1

POLICIES = f"""
import time

class Slow:
    def select(self, request, candidates, view):
        time.sleep({PAUSE_S})
        return candidates.best(candidates.tier)

class Hangs:
    def select(self, request, candidates, view):
        if request.request_id == 5:
            time.sleep(3600)
        return candidates.best(candidates.tier)
"""


def run(policy: str, folder: Path) -> tuple[int, str]:
    (folder / "their_live_policies.py").write_text(POLICIES)
    small = ("--requests", "12", "--set", "workload.max_input_tokens=4096", "--set", "workload.max_output_tokens=64")
    command = [str(NETKV), "run", "--policy", f"their_live_policies:{policy}", *ON_A_SMALL_FABRIC, *small]
    done = subprocess.run(
        [*command, "--set", "policy_limit_s=1", "--out", "run"],
        cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def test_decode_steps_keep_time_while_the_scheduler_is_busy(tmp_path: Path) -> None:
    """Each decision blocks the router for 100 ms; a step is 30 to 34 ms for up to 16 requests."""
    code, errors = run("Slow", tmp_path)
    assert code in (0, 1), errors  # 1: complete, but the machine (or this policy) was too slow to trust it
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["completed"] == 12
    assert 29.5 < summary["median_itl_ms"] < 34.5
    assert summary["p99_itl_ms"] < 30 + 1e3 * PAUSE_S / 2


def test_a_policy_that_hangs_ends_the_run_and_the_record_is_kept(tmp_path: Path) -> None:
    code, errors = run("Hangs", tmp_path)
    complaint = "policy their_live_policies:Hangs took longer than 1 s on request 5"
    assert code == 1, errors
    assert complaint in errors
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["verdict"] == "invalid"
    assert manifest["verdict_reasons"][0] == complaint
    requests = pd.read_parquet(tmp_path / "run" / "requests.parquet").set_index("request_id")
    assert requests.loc[5, "error"] == complaint
    assert len(pd.read_parquet(tmp_path / "run" / "decisions.parquet")) >= 1
    assert (requests["decode_id"] >= 0).any()
