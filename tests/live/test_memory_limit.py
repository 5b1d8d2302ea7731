"""Analytic commands in a memory cgroup: what fits, and what is left when the kernel ends one that does not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.checking import check_folder
from scenario import Scenario, WorkloadSpec, load_requests
from tests.support.memory_cgroup import MemoryCgroup, memory_cgroup
from tests.support.paths import ROOT

pytestmark = [pytest.mark.live, pytest.mark.untimed, pytest.mark.usefixtures("live_machine")]

NETKV = Path(sys.executable).with_name("netkv")
MIB = 1 << 20
TRACE_REQUESTS = 12_031
"""Of Mooncake's conversation trace."""

DEADLINE_S = 400
SWEEP = (
    *("sweep", "staleness", "--world", "analytic", "--requests", "200", "--seed", "1", "--jobs", "2"),
    *("--policies", "round_robin,netkv_full", "--refresh", "1", "--quiet"),
)


def netkv(cgroup: MemoryCgroup | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(NETKV), *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        preexec_fn=cgroup.join if cgroup is not None else None,
    )  # fmt: skip


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A generated trace of the size of the conversation trace, in its format."""
    place = tmp_path / "trace.jsonl"
    with place.open("w") as file:
        for one in load_requests(Scenario(workload=WorkloadSpec(requests=TRACE_REQUESTS))):
            row = {"timestamp": round(one.timestamp_s * 1e3), "hash_ids": list(one.block_ids)}
            file.write(json.dumps(row | {"input_length": one.input_length, "output_length": one.output_length}) + "\n")
    return place


@pytest.mark.slow
def test_a_trace_of_12031_requests_fits_256_mib(tmp_path: Path, trace: Path) -> None:
    out = tmp_path / "run"
    with memory_cgroup(256 * MIB) as cgroup:
        said = netkv(
            cgroup,
            "run",
            "--world",
            "analytic",
            "--trace",
            str(trace),
            "--requests",
            str(TRACE_REQUESTS),
            "--out",
            str(out),
        )
        assert said.returncode == 0, said.stderr
        print(f"{cgroup.most_used_bytes / MIB:.0f} MiB at most")
        assert cgroup.killed == 0
    assert f"{TRACE_REQUESTS} completed, 0 failed" in said.stdout
    assert list(check_folder(out).values()) == [[]]


def test_a_run_that_the_kernel_ends_leaves_nothing_that_could_be_taken_for_one(tmp_path: Path) -> None:
    run = ("run", "--world", "analytic", "--requests", "20", "--out", str(tmp_path / "run"), "--quiet")
    with memory_cgroup(48 * MIB) as cgroup:
        said = netkv(cgroup, *run)
        assert (said.returncode, cgroup.killed > 0) == (-signal.SIGKILL, True), said.stderr
    assert [place for place in tmp_path.iterdir() if not place.name.startswith(".")] == []
    assert netkv(None, *run).returncode == 0
    assert [place.name for place in tmp_path.iterdir()] == ["run"]


def test_a_sweep_whose_processes_the_kernel_ends_says_so_in_a_line_and_can_be_continued(tmp_path: Path) -> None:
    out, whole = tmp_path / "sweep", tmp_path / "whole"
    with memory_cgroup(200 * MIB) as cgroup:
        said = netkv(cgroup, *SWEEP, "--out", str(out))
        assert cgroup.killed > 0
    assert said.returncode in (3, -signal.SIGKILL), said.stderr
    assert "Traceback" not in said.stderr
    assert not (out / "staleness.csv").exists()
    for found in check_folder(out).values() if list(out.glob("runs/[!.]*/manifest.json")) else ():
        assert found == []
    assert netkv(None, *SWEEP, "--out", str(out), *(["--resume"] if out.exists() else [])).returncode == 0
    assert netkv(None, *SWEEP, "--out", str(whole)).returncode == 0
    assert (out / "staleness.csv").read_bytes() == (whole / "staleness.csv").read_bytes()
