"""Sweeps on a real Dask scheduler with two workers, and on local processes: the same runs, whatever is killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from distributed.comm import CommClosedError

from experiments.running import cluster, local_processes, world_runner
from experiments.running.cluster import (
    EMULATION,
    Cluster,
    existing_cluster,
    run_on_worker,
)
from experiments.running.code_identity import code_identity
from experiments.running.errors import BrokenClusterError, ClusterError
from experiments.running.local_processes import LocalProcesses
from experiments.running.run_process import RunProcess, RunProcessError
from experiments.running.sweep import Condition
from experiments.running.world_runner import WorldRunner, answered, ordered
from tests.support.dask_processes import scheduler, wait_until, workers
from tests.support.hangups import hears_hangups
from tests.support.made_runs import spec
from tests.support.paths import ROOT
from tests.support.small_sweeps import kept, small_conditions, sweep_in
from workloads import WorkloadError

pytestmark = pytest.mark.xdist_group("cluster")

CONDITIONS = small_conditions()
POLICY = "tests.support.cluster_policies"
MARK = "NETKV_TEST_CLUSTER"
INTERRUPTED = 128


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler with two workers, of which one may emulate."""
    folder = tmp_path_factory.mktemp("dask")
    with scheduler(folder) as found, workers(found, folder, {EMULATION: 1}, {}):
        with Client(found) as client:
            client.wait_for_workers(2, timeout=60)
        yield found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the small sweep keeps when it is made in this process."""
    out = tmp_path_factory.mktemp("here")
    sweep_in(out, CONDITIONS)
    return kept(out)


def theirs(policy: str, seeds: int = 1, **changes: Any) -> list[Condition]:
    """Runs of one policy that a user brings along."""
    return [
        Condition(f"{policy}-{seed}", spec(policy=f"{POLICY}:{policy}", seed=seed, **changes), {"seed": seed})
        for seed in range(seeds)
    ]


# The same results


def test_a_cluster_makes_the_runs_that_one_process_makes(
    tmp_path: Path, address: str, expected: dict[str, Any]
) -> None:
    said = sweep_in(tmp_path, CONDITIONS, dask=address)
    assert kept(tmp_path) == expected
    assert [line.split()[0] for line in said.splitlines()[:6]] == [f"{number}/6" for number in range(1, 7)]


def test_local_processes_make_the_runs_that_one_process_makes(tmp_path: Path, expected: dict[str, Any]) -> None:
    sweep_in(tmp_path, CONDITIONS, jobs=2)
    assert kept(tmp_path) == expected


def test_a_cluster_continues_what_one_process_began(tmp_path: Path, address: str, expected: dict[str, Any]) -> None:
    sweep_in(tmp_path, CONDITIONS)
    for condition in CONDITIONS[1::2]:
        for file in (tmp_path / "runs" / condition.name).iterdir():
            file.unlink()
    assert "3 of 6 runs are there already" in sweep_in(tmp_path, CONDITIONS, resume=True, dask=address)
    assert kept(tmp_path) == expected


def test_a_policy_that_never_decides_is_ended_on_a_worker_as_here(tmp_path: Path, address: str) -> None:
    made = theirs("Hanging", workload__requests=2, policy_limit_s=0.2)
    sweep_in(tmp_path / "here", made)
    sweep_in(tmp_path / "there", made, dask=address)
    found = kept(tmp_path / "there")
    assert found == kept(tmp_path / "here")
    (reason,) = found["Hanging-0/manifest.json"]["verdict_reasons"]  # type: ignore[index]
    assert reason == f"policy {POLICY}:Hanging took longer than 0.2 s on request 0"


def test_what_a_policy_prints_does_not_get_into_its_run(tmp_path: Path, address: str) -> None:
    made = theirs("Chatty", workload__requests=5)
    for where, options in (("here", {}), ("there", {"dask": address})):
        sweep_in(tmp_path / where, made, **options)
    assert kept(tmp_path / "there") == kept(tmp_path / "here")


# What dies


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(tmp_path: Path, address: str) -> None:
    made = theirs("Slow", seeds=3, workload__requests=6)
    killed: list[int] = []

    def kill_a_busy_worker() -> None:
        with Client(address, set_as_default=False) as client:
            wait_until(lambda: all(client.processing().values()), "both workers at work")
            killed.append(min(client.run(os.getpid).values()))
            os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_a_busy_worker)
    killer.start()
    sweep_in(tmp_path / "there", made, dask=address)
    killer.join()
    sweep_in(tmp_path / "here", made)
    assert killed
    assert kept(tmp_path / "there") == kept(tmp_path / "here")


@pytest.mark.slow
def test_a_run_that_always_kills_its_worker_is_named_and_the_others_are_kept(tmp_path: Path, address: str) -> None:
    made = [CONDITIONS[0], *theirs("Murderous", workload__requests=2)]
    with pytest.raises(BrokenClusterError, match=r"^Murderous-0: given up: 2 workers died of it$"):
        sweep_in(tmp_path, made, dask=address)
    assert [name for name in kept(tmp_path) if name.endswith("summary.json")] == [f"{CONDITIONS[0].name}/summary.json"]
    with Client(address) as client:
        client.wait_for_workers(2, timeout=60)


def test_a_run_that_always_kills_its_process_is_named(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "MOST_DEATHS", 2)
    died = "the process of the run was killed by signal 11: it left no message"
    with pytest.raises(BrokenClusterError, match=f"^Fatal-0: given up: 2 times {died}$"):
        sweep_in(tmp_path, theirs("Fatal", workload__requests=2), dask=address)


def test_a_run_that_always_kills_its_local_process_is_named_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_processes, "MOST_DEATHS", 2)
    died = "the process of the run was killed by signal 11: it left no message"
    with pytest.raises(BrokenClusterError, match=f"^Fatal-0: given up: 2 times {died}$"):
        sweep_in(tmp_path, [CONDITIONS[0], *theirs("Fatal", workload__requests=2)], jobs=2)
    assert [name for name in kept(tmp_path) if name.endswith("summary.json")] == [f"{CONDITIONS[0].name}/summary.json"]


def test_a_local_process_that_cannot_be_started_ends_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short() -> RunProcess:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(local_processes, "RunProcess", short)
    with pytest.raises(BlockingIOError):
        sweep_in(tmp_path, CONDITIONS, jobs=2)


def test_a_killed_local_process_costs_nothing_but_time(tmp_path: Path) -> None:
    made = theirs("Slow", seeds=3, workload__requests=6)
    specs = {condition.name: condition.spec for condition in made}
    started: list[RunProcess] = []

    class Noted(RunProcess):
        def __init__(self) -> None:
            super().__init__()
            started.append(self)

    with pytest.MonkeyPatch.context() as watched:
        watched.setattr(local_processes, "RunProcess", Noted)
        runs = LocalProcesses(2).run_all(specs, lambda _: None)
        found = dict([next(runs)])
        os.kill(next(one for one in started if one.usable)._child.pid, signal.SIGKILL)
        found |= runs
    with WorldRunner() as runner:
        assert {name: run.files["requests.parquet"] for name, run in found.items()} == {
            name: runner.run(one).files["requests.parquet"] for name, one in specs.items()
        }


@pytest.mark.slow
def test_the_scheduler_is_gone(tmp_path: Path) -> None:
    made = theirs("Hanging", seeds=2, policy_limit_s=3600)
    with scheduler(tmp_path) as address, workers(address, tmp_path, {}):

        def kill_the_scheduler() -> None:
            with Client(address, set_as_default=False) as client:
                client.wait_for_workers(1, timeout=60)
                pid = client.run_on_scheduler(os.getpid)
                wait_until(lambda: any(client.processing().values()), "a worker at work", 60)
            os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill_the_scheduler)
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        killer.start()
        with pytest.raises(BrokenClusterError, match=f"^{address}: the scheduler is gone$"):
            sweep_in(tmp_path / "sweep", made, dask=address)
        killer.join()


# What is refused


def test_errors_are_those_of_one_process(tmp_path: Path, address: str) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text("{}\n")
    broken = spec(workload__trace=str(trace))
    with WorldRunner() as here_alone, pytest.raises(WorkloadError) as here:
        here_alone.run(broken)
    with existing_cluster(address) as workers_of:
        for processes in (workers_of, LocalProcesses(2)):
            with pytest.raises(WorkloadError) as there:
                list(processes.run_all({"broken": broken}, lambda _: None))
            assert str(there.value) == str(here.value)
    assert str(trace) in str(here.value)


def test_workers_with_other_code_are_refused(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "code_identity", lambda: {**code_identity(), "numpy": "1.0"})
    line = r"^worker tcp://127\.0\.0\.1:\d+: runs other code than this machine: numpy was 1\.0, now [\d.]+$"
    with pytest.raises(ClusterError, match=line):
        sweep_in(tmp_path / "sweep", CONDITIONS, dask=address)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_with_other_code_that_came_late_is_refused(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "code_identity", lambda: {**code_identity(), "source": "other"})
    monkeypatch.setattr(cluster.Cluster, "_check", lambda *_: None)  # it was not there yet
    line = rf"^{address}: a worker has other code or another trace than this machine: source was other \(.*\), now "
    with pytest.raises(ClusterError, match=line):
        sweep_in(tmp_path / "sweep", CONDITIONS, dask=address)


def test_another_trace_under_the_same_name_is_refused(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"timestamp": 0, "input_length": 512, "output_length": 2, "hash_ids": [1]}\n')
    monkeypatch.setattr(world_runner, "digest_of", lambda _: "theirs")
    made = [Condition("one", spec(workload__trace=str(trace)), {})]
    with pytest.raises(ClusterError, match=f"another trace than this machine: {trace} was theirs, now [0-9a-f]{{12}}$"):
        sweep_in(tmp_path / "sweep", made, dask=address)


def test_nobody_listens_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ClusterError, match=f"^{re.escape(nobody)}: no Dask scheduler can be reached there: "):
        sweep_in(tmp_path / "sweep", CONDITIONS, dask=nobody)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["", "host", "http://host:8786", "inproc://host:1", "tcp://host", "tcp://a b:1"])
def test_what_is_no_address_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ClusterError, match=f"^--dask {wrong}: the address of a scheduler was expected"):
        sweep_in(tmp_path / "sweep", CONDITIONS, dask=wrong)
    assert list(tmp_path.iterdir()) == []


def test_tls_without_keys_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        ClusterError, match=r"^tls://127\.0\.0\.1:1: no Dask scheduler can be reached there: TLS expects"
    ):
        sweep_in(tmp_path / "sweep", CONDITIONS, dask="tls://127.0.0.1:1")


def test_a_cluster_without_workers_says_how_to_start_one(tmp_path: Path) -> None:
    emulated = Condition("emulated", spec(world="emulated"), {})
    with scheduler(tmp_path) as address:
        with pytest.raises(ClusterError, match=f"^{address}: the cluster has no worker .start some with `dask worker"):
            sweep_in(tmp_path / "sweep", CONDITIONS, dask=address)
        with workers(address, tmp_path, {}), Client(address) as client:
            client.wait_for_workers(1, timeout=60)
            with pytest.raises(ClusterError, match=f"no worker may emulate .* --resources {EMULATION}=1"):
                sweep_in(tmp_path / "sweep", [emulated], dask=address)


# Nothing is left running


def marked(mark: str) -> list[int]:
    """Processes that carry a mark in their environment."""
    found = []
    for name in os.listdir("/proc"):
        with suppress(OSError):
            if name.isdigit() and f"{MARK}={mark}".encode() in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                found.append(int(name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL], ids=["interrupted", "hung up", "killed"]
)
def test_an_ended_sweep_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    mark, out = uuid.uuid4().hex, tmp_path / "sweep"
    command = [sys.executable, "-c", "from experiments.cli import main; main()", "sweep", "staleness"]
    policies = f"round_robin,{POLICY}:Hanging"
    options = ["--world", "analytic", "--policies", policies, "--requests", "3", "--set", "policy_limit_s=3600"]
    started = subprocess.Popen(
        [*command, *options, "--jobs", "2", "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, MARK: mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears_hangups,
    )
    wait_until(lambda: list((out / "runs").glob("[!.]*")), "the first run", 60)
    wait_until(lambda: len(marked(mark)) == 3, "the command and its two processes")
    started.send_signal(number)
    _, said = started.communicate(timeout=60)
    wait_until(lambda: not marked(mark), "the end of every process")
    assert len(kept(out)) >= 5
    if number is not signal.SIGKILL:
        assert started.returncode == INTERRUPTED + number
        assert said == "netkv: interrupted; finished runs are kept (--resume continues a sweep)\n"


def test_a_run_that_nobody_waits_for_is_ended_on_its_worker(address: str) -> None:
    def at_work(dask_worker: Any) -> int:
        return len(dask_worker.active_threads)

    (hanging,) = theirs("Hanging", policy_limit_s=3600)
    with Client(address, set_as_default=False) as observer:
        with Client(address) as client:
            lost = client.submit(run_on_worker, ordered(hanging.spec, code_identity()))
            wait_until(lambda: sum(observer.run(at_work).values()) == 1, "the run on its worker")
            time.sleep(1.0)
            assert lost.status == "pending"
        wait_until(lambda: sum(observer.run(at_work).values()) == 0, "the end of the run")


def test_a_worker_that_dies_while_its_code_is_asked_for_is_passed_over() -> None:
    """It will be replaced: that is no reason to refuse the others, and no bad input."""
    asked = ClientOfOneThatDied()
    Cluster(asked, "tcp://here:1")._check("analytic", code_identity())
    assert asked.runs == 1


class ClientOfOneThatDied:
    """A Dask client with two workers, of which one is gone when it is asked."""

    def __init__(self) -> None:
        self.runs = 0

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        return {"workers": {place: {"nthreads": 1} for place in ("tls://here:2", "tls://here:3")}}

    def run(self, asked: Any, on_error: str) -> dict[str, Any]:
        self.runs += 1
        return {"tls://here:2": CommClosedError("Address removed."), "tls://here:3": asked()}


# One process, one machine


def test_a_run_process_is_kept_for_the_next_run_and_tells_its_last_words() -> None:
    process = RunProcess()
    orders = [ordered(made.spec, code_identity()) for made in (CONDITIONS[0], *theirs("Fatal"))]
    try:
        first, second = (answered(process.run(orders[0])) for _ in range(2))
        assert first.files["requests.parquet"] == second.files["requests.parquet"]
        assert process.usable
        with pytest.raises(RunProcessError, match="killed by signal 11"):
            process.run(orders[1])
        assert not process.usable
    finally:
        process.close()


def test_a_run_process_that_the_kernel_killed_says_what_that_may_mean() -> None:
    process = RunProcess()
    os.kill(process._child.pid, signal.SIGKILL)
    with pytest.raises(RunProcessError, match=r"was killed by signal 9 \(out of memory\?\): it left no message$"):
        process.run(ordered(CONDITIONS[0].spec, code_identity()))
    process.close()


def test_a_run_process_keeps_its_temporary_files_where_its_parent_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    process = RunProcess()
    environment = Path(f"/proc/{process._child.pid}/environ")
    try:
        wait_until(environment.read_bytes, "its environment, which the kernel shows a moment after Popen returns")
        assert f"TMPDIR={tmp_path}".encode() in environment.read_bytes().split(b"\0")
    finally:
        process.close()


def test_dask_is_loaded_only_where_it_is_used() -> None:
    loaded = "import sys, experiments.cli; sys.exit(bool({'dask', 'distributed'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, check=False).returncode == 0
