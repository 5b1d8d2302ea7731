"""Every file of examples/ runs as its own docstring says."""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"
PYTHON = sys.executable
NETKV = str(Path(PYTHON).parent / "netkv")

DOCUMENT = {
    "schema": "netkv.cost/v1",
    "complete": True,
    "sampled_monotonic_s": 0.0,
    "links": {"srv0>tor0": {"capacity_bps": 200e9, "utilisation": 0.25}},
}


def run(*command: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_policy_runs_from_its_own_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ("--world", "analytic", "--requests", "30", "--out", str(out))
    run(NETKV, "run", "--policy", "nearest_policy:Nearest", *arguments, cwd=EXAMPLES)
    requests = pd.read_parquet(out / "requests.parquet")
    assert set(requests["policy"]) == {"nearest_policy:Nearest"}
    assert (requests["tier"] == 1).mean() > 0.9


def test_the_specification_is_used_field_by_field(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(NETKV, "run", str(EXAMPLES / "spec.yaml"), "--out", str(out))
    spec = json.loads((out / "manifest.json").read_text())["spec"]
    assert (spec["world"], spec["workload"]["profile"], spec["oracle"]["refresh_s"]) == ("analytic", "rag", 5)


def test_a_sweep_is_read(tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    small = ("--world", "analytic", "--requests", "20", "--seed", "0", "--policies", "round_robin,netkv_full")
    run(NETKV, "sweep", "staleness", *small, "--out", str(out))
    printed = run(PYTHON, str(EXAMPLES / "read_sweep.py"), str(out)).splitlines()
    assert printed[0].split() == ["ttft_ms", "kv_transfer_ms"]
    rows = "\n".join(printed[2:])
    assert "round_robin" in rows
    assert "netkv_full" in rows


class OneDocument(socketserver.StreamRequestHandler):
    """Answers each line with the document."""

    def handle(self) -> None:
        while self.rfile.readline():
            self.wfile.write(json.dumps(DOCUMENT).encode() + b"\n")


@pytest.fixture
def oracle(tmp_path: Path) -> Iterator[Path]:
    """The socket of an oracle that always publishes the same document."""
    path = tmp_path / "oracle.sock"
    with socketserver.ThreadingUnixStreamServer(os.fspath(path), OneDocument) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield path
        server.shutdown()
        thread.join()


def test_the_client_reads_a_socket(oracle: Path) -> None:
    """The same client reads a real oracle in tests/live/test_fabric.py."""
    printed = run(PYTHON, str(EXAMPLES / "oracle_client.py"), str(oracle), "srv0>tor0")
    assert "srv0>tor0" in printed
    assert "150.0 Gbit/s left" in printed
