"""`netkv plan --calibrate` on this machine: what it says of a specification, and that what it proposes runs valid."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.live.speed import made_at_most_twice, speed_of_a_run

pytestmark = pytest.mark.live

NETKV = Path(sys.executable).with_name("netkv")
SHORT = (
    *("--requests", "12", "--congestion", "none", "--set", "policy=cla", "--set", "workload.max_output_tokens=4"),
    *("--set", "workload.max_input_tokens=6000"),
)
BEYOND = ("--set", "emulation.rate_scale=100")
DEADLINE_S = 120


def netkv(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([NETKV, *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("plan") / "machine.json"
    done = netkv("plan", *SHORT, "--calibrate", "--calibration", file)
    assert done.returncode == 0, done.stderr
    assert "prediction: " in done.stdout
    return file


def predicted(calibration: Path, *arguments: str) -> dict[str, Any]:
    done = netkv("plan", *arguments, "--calibration", calibration, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["feasibility"]
    return found


def assert_valid(place: Path, *arguments: str) -> None:
    """Run it: the verdict is `valid`, or its doubts are other work's, twice."""

    def make(attempt: int) -> list[str]:
        out = place / str(attempt)
        done = netkv("run", *arguments, "--out", out)
        assert done.returncode in (0, 1), done.stderr
        reasons: list[str] = json.loads((out / "manifest.json").read_text())["verdict_reasons"]
        return reasons

    reasons = made_at_most_twice(make, list)
    with speed_of_a_run(reasons):
        assert reasons == []


def test_a_transfer_across_pods_is_no_faster_than_one_in_a_rack(calibration: Path) -> None:
    machine = json.loads(calibration.read_text())
    assert 20e6 < machine["across_bps"] <= 1.1 * machine["rack_bps"]


def test_the_default_is_predicted_to_fit_and_runs_valid(calibration: Path, tmp_path: Path) -> None:
    assert predicted(calibration)["prediction"] == "fits"
    assert_valid(tmp_path, "--requests", "24", "--set", "workload.max_output_tokens=8")


def test_links_beyond_the_machine_do_not_fit_and_what_is_proposed_instead_runs_valid(
    calibration: Path, tmp_path: Path
) -> None:
    found = predicted(calibration, *SHORT, *BEYOND)
    assert (found["prediction"], found["binding"]) == ("does not fit", "idle_path")
    assert found["margin"] < 0.5
    proposed = ("--set", f"emulation.rate_scale={found['proposals']['rate_scale']:g}")
    assert predicted(calibration, *SHORT, *proposed)["prediction"] == "fits"
    assert_valid(tmp_path, *SHORT, *proposed)
