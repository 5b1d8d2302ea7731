"""A router behind HTTP and an emulated run: its server is on the host, the decisions are taken in the sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from testbed.host_network import OWN_NETWORK
from testbed.sandbox import python_in_sandbox
from tests.support.live.small_fabric import ON_A_SMALL_FABRIC
from tests.support.paths import ROOT, environment
from tests.support.scripted_router import reply, scripted_router

pytestmark = [pytest.mark.live, pytest.mark.untimed]

NETKV = Path(sys.executable).with_name("netkv")
DEADLINE_S = 150.0
WARM = ("--set", "workload.warm_requests=5", "--set", "workload.first_request=5")
SMALL = ("--requests", "12", "--set", "workload.max_input_tokens=4096", "--set", "workload.max_output_tokens=16")


def last(document: dict[str, Any]) -> bytes:
    """The last instance, which none of ours prefers."""
    able = [one["decode_id"] for one in document["candidates"] if one["feasible"]]
    return reply({"decode_id": able[-1], "reason": "the last"})


def run(policy: str, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(NETKV), "run", "--policy", policy, *ON_A_SMALL_FABRIC, *SMALL, *options, "--out", str(out)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@pytest.mark.parametrize("over", ["tcp", "unix"])
def test_it_is_reached_from_the_sandbox(over: str, tmp_path: Path) -> None:
    with scripted_router(last, tmp_path / "router.sock" if over == "unix" else None) as router:
        done = run(router.url + "#snapshot", tmp_path / "run", *WARM)
    assert done.returncode in (0, 1), done.stderr  # 1: complete, but the machine was too slow to trust it
    decisions = pd.read_parquet(tmp_path / "run" / "decisions.parquet")
    assert len(decisions) == 12
    assert decisions["decode_id"].nunique() == 1
    assert set(decisions["reason"]) == {"the last"}
    assert router.connections == 3  # before the fabric is brought up, for warm caches, for the run
    assert any(document["snapshot"] for document in router.documents)


def test_one_that_is_not_there_is_told_before_the_fabric_is_brought_up(tmp_path: Path) -> None:
    with scripted_router(last) as router:
        pass
    done = run(router.url, tmp_path / "run")
    assert done.returncode == 2
    assert "no connection: Connection refused (start the router first)" in done.stderr
    assert not (tmp_path / "run").exists()


DIALS = """
import json, os, socket, subprocess, sys
from testbed.host_network import HostNetwork

port, descriptor = int(sys.argv[1]), int(sys.argv[2])
host = HostNetwork(descriptor)
own = os.stat("/proc/thread-self/ns/net").st_ino
found = {"dialled": host.dial(("127.0.0.1", port), 5.0).getpeername()[1]}
try:
    socket.create_connection(("127.0.0.1", port), 1.0)
except OSError as problem:
    found["own"] = problem.strerror
try:
    host.dial(("127.0.0.1", 1), 1.0)
except OSError as problem:
    found["refused"] = problem.strerror
found["back"] = os.stat("/proc/thread-self/ns/net").st_ino == own
look = [sys.executable, "-c", f"import os; os.fstat({descriptor})"]
child = subprocess.run(look, capture_output=True, close_fds=False)
found["inherited"] = child.returncode == 0
print(json.dumps(found))
"""


def test_the_hosts_network_is_entered_for_a_connection_and_left(tmp_path: Path) -> None:
    (tmp_path / "dials.py").write_text(DIALS)
    with scripted_router(last) as router, open(OWN_NETWORK) as network:
        port = router.url.rpartition(":")[2].partition("/")[0]
        command = python_in_sandbox("dials", port, str(network.fileno()))
        where = environment() | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path)))}
        done = subprocess.run(
            command, env=where, pass_fds=(network.fileno(),), capture_output=True, text=True, timeout=30, check=False
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "dialled": int(port),
        "own": "Network is unreachable",
        "refused": "Connection refused",
        "back": True,
        "inherited": False,
    }
