"""Emulated runs on workers: one at a time on the one that may, as few bring-ups as in one process, nothing left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from distributed import Client

from experiments.running.cluster import EMULATION
from experiments.running.sweep import RUNS, Condition, read_sweep
from tests.support.dask_processes import scheduler, wait_until, workers
from tests.support.live.worlds import MARK, host_state, processes_with, sandboxes_of
from tests.support.made_runs import spec
from tests.support.paths import ROOT
from tests.support.small_sweeps import sweep_in

pytestmark = [pytest.mark.live, pytest.mark.untimed, pytest.mark.slow, pytest.mark.usefixtures("live_machine")]

SMALL = {
    "fabric__pods": 1,
    "workload__requests": 3,
    "workload__max_output_tokens": 8,
    "congestion__kind": "none",
    "emulation__datapath": "user",
}
QUEUES = (100, 120)
"""Frames: another depth is another fabric, so every two runs need a bring-up of their own."""

INTERRUPTED = 130


def conditions() -> list[Condition]:
    return [
        Condition(
            f"queue{queue}-seed{seed}",
            spec(world="emulated", emulation__queue_packets=queue, seed=seed, **SMALL),
            {"seed": seed, "queue": queue},
        )
        for seed in (0, 1)
        for queue in QUEUES
    ]


def test_one_sandbox_at_a_time_and_a_bring_up_a_fabric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark, before = f"{MARK}={uuid.uuid4().hex}", host_state()
    monkeypatch.setenv(*mark.split("="))
    seen: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            seen.append(len(sandboxes_of(mark)))

    with scheduler(tmp_path) as address, workers(address, tmp_path, {EMULATION: 1}, {}):
        with Client(address) as client:
            client.wait_for_workers(2, timeout=60)
        watching = threading.Thread(target=watch)
        watching.start()
        try:
            sweep_in(tmp_path / "sweep", conditions(), dask=address)
        finally:
            over.set()
            watching.join()
    assert max(seen) == 1
    assert set(read_sweep(tmp_path / "sweep")["status"]) == {"completed"}
    manifests = [json.loads(place.read_text()) for place in (tmp_path / "sweep" / RUNS).glob("*/manifest.json")]
    assert len(manifests) == 4
    assert len({manifest["evidence"]["bringup_s"] for manifest in manifests}) == len(QUEUES)
    monkeypatch.delenv(MARK)
    wait_until(lambda: not processes_with(mark), "the end of every process")
    assert host_state() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_an_ended_sweep_leaves_no_fabric(tmp_path: Path, number: signal.Signals) -> None:
    mark, before = f"{MARK}={uuid.uuid4().hex}", host_state()
    command = [sys.executable, "-c", "from experiments.cli import main; main()", "sweep", "staleness", "--jobs", "2"]
    started = subprocess.Popen(
        [*command, "--set", "fabric.pods=1", "--set", "emulation.datapath=user", "--out", str(tmp_path / "sweep")],
        cwd=ROOT,
        env={**os.environ, **dict([mark.split("=")])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: sandboxes_of(mark), "the sandbox", 60)
        time.sleep(random.uniform(0, 5))
        started.send_signal(number)
        assert started.wait(60) == (INTERRUPTED if number is signal.SIGINT else -signal.SIGKILL)
        wait_until(lambda: not processes_with(mark), "the end of every process")
    finally:
        started.kill()
        started.wait()
    assert not (tmp_path / "sweep" / RUNS).exists()
    assert host_state() == before
