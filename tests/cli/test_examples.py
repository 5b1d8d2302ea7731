"""Every file of examples/ runs as its own docstring says."""

from __future__ import annotations

import ast
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from controller import check_document
from scheduler import parse_document
from testbed.oracle_client import OracleClient, OracleUnavailableError
from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"
PYTHON = sys.executable
DEADLINE_S = 60.0
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


def test_the_policy_with_books_of_its_own_runs_to_its_end(tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ("--world", "analytic", "--requests", "60", "--out", str(out))
    run(NETKV, "run", "--policy", "block_counting_policy:FewestBlocks", *arguments, cwd=EXAMPLES)
    requests = pd.read_parquet(out / "requests.parquet")
    assert (requests["status"] == "completed").all()
    assert requests["decode_id"].nunique() == 8


def test_the_specification_is_used_field_by_field(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(NETKV, "run", str(EXAMPLES / "spec.yaml"), "--out", str(out))
    spec = json.loads((out / "manifest.json").read_text())["spec"]
    assert (spec["world"], spec["workload"]["profile"], spec["oracle"]["refresh_s"]) == ("analytic", "rag", 5)


def test_a_sweep_is_read(tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    small = ("--world", "analytic", "--requests", "20", "--seed", "0", "--refresh", "1")
    policies = ("--policies", "round_robin,netkv_full")
    run(NETKV, "sweep", "staleness", *small, *policies, "--out", str(out))
    printed = run(PYTHON, str(EXAMPLES / "read_sweep.py"), str(out)).splitlines()
    assert printed[0].split() == ["ttft_ms", "kv_transfer_ms"]
    rows = "\n".join(printed[2:])
    assert "round_robin" in rows
    assert "netkv_full" in rows


@pytest.fixture
def router() -> Iterator[str]:
    """The address of the example's router, which runs until the test ends."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen([PYTHON, str(EXAMPLES / "http_router.py"), str(port)]) as server:
        try:
            until_s = time.monotonic() + DEADLINE_S
            while time.monotonic() < until_s and server.poll() is None:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
            yield f"http://127.0.0.1:{port}/select"
        finally:
            server.kill()


def test_the_router_keeps_the_contract_and_decides_a_run(router: str, tmp_path: Path) -> None:
    found = json.loads(run(NETKV, "policy", "check", router, "--json"))
    assert [clause["name"] for clause in found["clauses"] if not clause["holds"]] == []
    out = tmp_path / "run"
    run(NETKV, "run", "--world", "analytic", "--requests", "30", "--policy", router, "--out", str(out))
    decisions = pd.read_parquet(out / "decisions.parquet")
    assert decisions["reason"].str.fullmatch(r"[\d.]+ ms").all()
    told = decisions.set_index("request_id")["reason"][7]
    assert f"Why: {router} says: {told!r}. The predictions are" in run(NETKV, "explain", str(out), "7")
    source = (EXAMPLES / "http_router.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) - len((ast.get_docstring(ast.parse(source)) or "").splitlines()) <= 30


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


def document_when(client: OracleClient, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first document for which it holds."""
    until_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < until_s:
        with suppress(OracleUnavailableError):
            if holds(found := client.fetch()):
                return found
        time.sleep(0.02)
    raise AssertionError("no such document was published")


def test_the_publisher_makes_documents_of_byte_counters(tmp_path: Path) -> None:
    """They conform to the schema and are as old as their oldest link; a counter that restarts is no burst."""
    links, path = tmp_path / "links.csv", tmp_path / "oracle.sock"
    links.write_text("srv0>tor0,200e9,srv0:eth0\ntor0>srv0,200e9,tor0:Ethernet8\n")
    command = [PYTHON, str(EXAMPLES / "publish_cost.py"), str(path), str(links)]
    client = OracleClient(path)
    began_s = float(int(time.time()) - 100)

    def lines(*readings: tuple[str, int, float]) -> str:
        return "".join(f"{port} {counter} {began_s + after_s}\n" for port, counter, after_s in readings)

    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, bufsize=1) as publisher:
        assert publisher.stdin is not None
        publisher.stdin.write(lines(("srv0:eth0", 0, 0.0), ("tor0:Ethernet8", 500, 0.5)))
        assert document_when(client, lambda _: True)["sampled_unix_s"] is None
        publisher.stdin.write(
            lines(("srv0:eth0", 12_500_000_000, 1.0), ("other", 5, 1.2), ("tor0:Ethernet8", 500, 1.5))
        )
        found = document_when(client, lambda document: bool(document["complete"]))
        check_document(found)
        assert found["sampled_unix_s"] == began_s + 1.0
        assert found["links"]["srv0>tor0"] == {"utilisation": 0.5, "capacity_bps": 200e9, "bytes": 12_500_000_000}
        assert parse_document(found, ["srv0>tor0", "tor0>srv0"]).utilisation.tolist() == [0.5, 0.0]
        publisher.stdin.write(lines(("srv0:eth0", 7, 2.0), ("tor0:Ethernet8", 25_000_000_500, 2.5)))
        found = document_when(client, lambda document: document["links"]["tor0>srv0"]["bytes"] > 0)
        assert found["links"]["srv0>tor0"]["utilisation"] == 0.5  # of the interval before the restart
        assert found["sampled_unix_s"] == began_s + 1.0
        publisher.stdin.close()
        assert publisher.wait(DEADLINE_S) == 0
    client.close()
    assert not path.exists()


def test_the_client_reads_a_socket(oracle: Path) -> None:
    """The same client reads a real oracle in tests/live/test_fabric.py."""
    printed = run(PYTHON, str(EXAMPLES / "oracle_client.py"), str(oracle), "srv0>tor0")
    assert "srv0>tor0" in printed
    assert "150.0 Gbit/s left" in printed
