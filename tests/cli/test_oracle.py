"""`netkv oracle alto`: a run's telemetry by HTTP without root, and a clear end whatever is wrong."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from controller import AltoSnapshot
from experiments.cli import app
from experiments.exporting import read_telemetry
from experiments.running import StoreError, open_world, read_table, write_run
from tests.support.command_line import CommandLine
from tests.support.command_line import refused as one_line
from tests.support.made_runs import outcome, record, spec
from tests.support.paths import ROOT

pytestmark = pytest.mark.xdist_group("recorded telemetry")

DEADLINE_S = 60.0
VALID = {"verdict": "valid", "reasons": []}


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the analytic world."""
    out = tmp_path_factory.mktemp("analytic") / "run"
    made = spec(workload__requests=40, seed=3)
    with open_world(made) as world:
        write_run(out, made, world.run(made.scenario), VALID)
    return out


def read(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        return json.load(answer)


def test_a_run_is_served_until_interrupted_and_the_port_is_free_again(run: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "experiments.cli", "oracle", "alto", str(run), "--port", "0", "--at", "5"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        url = line.partition("/directory")[0]
        port = int(url.rpartition(":")[2])
        directory = read(f"{url}/directory")
        assert line.endswith("16 endpoints; Ctrl-C ends it\n")
        found = read(url + directory["resources"]["costmap-bw-available"]["uri"])["cost-map"]
        links = read_table(run, "links", ["time_s", "link", "utilisation"])
        at = links[links["time_s"] == links[links["time_s"] <= 5]["time_s"].max()].set_index("link")["utilisation"]
        out, into = at["srv0>tor0"], at["tor0>srv1"]
        assert found["srv0"]["srv1"] == pytest.approx(25e9 * (1 - max(out, into)), rel=1e-5)
        server.send_signal(signal.SIGTERM)
        assert server.wait(DEADLINE_S) == 128 + signal.SIGTERM
    finally:
        server.kill()
        server.wait()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


def test_a_run_is_played_at_its_own_pace_and_stays_at_its_last_snapshot(run: Path) -> None:
    recorded = read_telemetry(run)
    now_s = 1_000.0
    recorded.unix_s, recorded.pace = lambda: now_s, 10.0
    seen: list[AltoSnapshot] = []
    for after_s in (0.0, 0.5, 1e6):
        now_s = 1_000.0 + after_s
        snapshot = recorded()
        assert snapshot is not None
        seen.append(snapshot)
    assert seen[0].sampled_unix_s == 1_000.0
    later = recorded.sampled_s[recorded.sampled_s <= recorded.sampled_s[0] + 5.0][-1]
    assert seen[1].sampled_unix_s == pytest.approx(1_000.0 + (later - recorded.sampled_s[0]) / 10)
    assert (seen[2].utilisation == recorded.utilisation[-1]).all()


def test_of_an_emulated_run_it_is_the_documents_that_its_scheduler_read(tmp_path: Path) -> None:
    made = spec(world="emulated", emulation__datapath="user")
    names = [link.name for link in made.build()[0].links]
    rows = [
        {"read_s": read_s, "sampled_s": sampled_s, "link": name, "utilisation": utilisation}
        for read_s, sampled_s, utilisation in ((0.0, -0.1, 0.5), (1.0, float("nan"), float("nan")), (2.0, 1.9, 0.7))
        for name in names
    ]
    write_run(tmp_path / "run", made, outcome(record(0), snapshots=rows), VALID)
    found = read_telemetry(tmp_path / "run")
    assert found.sampled_s.tolist() == [-0.1, 1.9]  # the refused document in between is none
    assert found.utilisation.mean(axis=1) == pytest.approx([0.5, 0.7])
    found.at_s = 1.5
    snapshot = found()
    assert snapshot is not None
    assert snapshot.utilisation[0] == 0.5
    found.at_s = -1.0
    assert found() is None


def test_a_run_without_telemetry_is_refused(tmp_path: Path) -> None:
    empty = outcome(record(0), links=[])
    write_run(tmp_path / "run", spec(), empty, VALID)
    with pytest.raises(StoreError, match="no telemetry"):
        read_telemetry(tmp_path / "run")
    partial = outcome(record(0))
    write_run(tmp_path / "partial", spec(), partial, VALID)
    assert isinstance(pd.read_parquet(tmp_path / "partial" / "links.parquet"), pd.DataFrame)
    with pytest.raises(StoreError, match="lacks the link"):
        read_telemetry(tmp_path / "partial")


def test_what_is_wrong_is_said_in_one_line(server: subprocess.Popen[str], run: Path, tmp_path: Path) -> None:
    netkv = CommandLine(server, ROOT, tmp_path)

    def refused(*arguments: str) -> str:
        return one_line(netkv("oracle", "alto", *arguments))

    assert "nowhere" in refused(str(tmp_path / "nowhere"))
    assert "--pace 0: above 0" in refused(str(run), "--pace", "0")
    assert "--every nan: above 0" in refused(str(run), "--every", "nan")
    assert "--at -100: the first snapshot of this run is there at" in refused(str(run), "--at", "-100")
    assert "--spec, --set: are for an oracle's socket" in refused(str(run), "--set", "fabric.pods=3")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"--port {port}: cannot be bound on 127.0.0.1" in refused(str(run), "--port", port)
    with socket.socket(socket.AF_UNIX) as oracle:
        oracle.bind(str(tmp_path / "oracle.sock"))
        assert "--at, --pace: are for the folder of a run" in refused(str(tmp_path / "oracle.sock"), "--at", "1")
        large = refused(str(tmp_path / "oracle.sock"), "--set", "fabric.pods=200", "--port", "0")
        assert (
            "oracle.sock: 1600 instances... a map of all pairs is served for at most 1024".replace("...", ":") in large
        )


def test_help_says_what_it_serves() -> None:
    told = CliRunner().invoke(app, ["oracle", "alto", "--help"]).output
    assert "RFC 7285" in told
    assert "RUN|SOCKET" in told
