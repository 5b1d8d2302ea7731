"""A run that is killed leaves nothing, two runs do not meet, and the host is never touched."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from experiments.running.store import read_manifest, spec_of
from scenario import load_requests
from testbed.send_buffer import LEASE, SEND_BUFFER_B, SETTING, SendBufferLease, reclaim
from tests.support.killing.trial import command_of
from tests.support.live.lab import wait_until
from tests.support.live.small_fabric import ON_A_SMALL_FABRIC
from tests.support.live.worlds import (
    World,
    host_state,
    inhabited,
    original_send_buffer,
    processes_with,
    sandboxes_of,
    send_buffer_is_given_back,
)
from tests.support.paths import ROOT
from tests.support.run_histories import assert_no_violation

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.usefixtures("live_machine")]

GONE_S = 30.0
"""Guards against hanging: what a killed run leaves is gone in a second or two on an idle machine."""

OTHERS_S = 120.0
MARK = "NETKV_TEST_SIDE"
NETKV = Path(sys.executable).with_name("netkv")
HOLD = """
import sys
from testbed.send_buffer import SendBufferLease
with SendBufferLease():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def rng() -> random.Random:
    seed = random.randrange(2**32)
    print(f"seed of the moments: {seed}")
    return random.Random(seed)


@pytest.fixture
def own_send_buffer() -> Iterator[int]:
    """The host's own setting. Waits for nobody to hold it."""
    reclaim()
    wait_until(lambda: not LEASE.exists(), OTHERS_S, "the end of other runs that hold the send buffer")
    yield int(SETTING.read_text())
    reclaim()


def setting_B() -> int:
    return int(SETTING.read_text())


@pytest.mark.parametrize(("moment", "longest_s"), [("say building", 2.0), ("up", 1.0), ("done 1", 2.0)])
def test_a_killed_run_leaves_nothing(moment: str, longest_s: float, rng: random.Random) -> None:
    before, original_B = host_state(), original_send_buffer()
    with World(rounds=1, requests=20) as world:
        world.wait_for(moment)
        namespaces = world.namespaces()
        assert len(world.processes()) > 5
        assert len(namespaces) >= 3
        world.kill_after(rng.uniform(0, longest_s))
        wait_until(lambda: not world.processes() and not inhabited(namespaces), GONE_S, "the end of every process")
        wait_until(lambda: send_buffer_is_given_back(original_B), GONE_S, "the host's send buffer")
    assert host_state() == before


def test_two_runs_do_not_meet_and_one_outlives_the_other() -> None:
    before = host_state()
    with World(rounds=2, requests=8) as victim, World(rounds=3, requests=8) as survivor:
        for world in (victim, survivor):
            assert world.outcome()["statuses"] == ["completed"] * 8
        assert host_state() == before
        victim.kill_after(0)
        wait_until(lambda: not victim.processes(), GONE_S, "the end of the victim")
        assert setting_B() == SEND_BUFFER_B
        for _ in range(2):
            assert survivor.outcome()["statuses"] == ["completed"] * 8
        assert survivor.process.wait(GONE_S * 2) == 0
        wait_until(lambda: not survivor.processes(), GONE_S, "the end of the survivor")
    assert host_state() == before


def test_two_commands_side_by_side_keep_names_ports_and_records_apart(tmp_path: Path) -> None:
    """Both build the same names and listen on the same ports, each in its own sandbox."""
    before, seeds = host_state(), (1, 2)
    marks = {seed: f"{MARK}={uuid.uuid4()}" for seed in seeds}
    running = {seed: netkv_run(tmp_path / str(seed), seed, marks[seed]) for seed in seeds}
    try:
        wait_until(
            lambda: all(controllers(mark) == 1 for mark in marks.values()), GONE_S, "both controllers at the same time"
        )
        (one,), (other,) = (sandboxes_of(mark) for mark in marks.values())
        assert one != other
        assert host_state() == before
        for seed, process in running.items():
            said = process.communicate(timeout=OTHERS_S)[1]
            assert process.returncode in (0, 1), said  # 1: complete, but slowed down by the other
            wait_until(lambda mark=marks[seed]: not processes_with(mark), GONE_S, "the end of every process")  # type: ignore[misc]
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    for seed in seeds:
        run = tmp_path / str(seed)
        assert_no_violation(run)
        requests, alone = (
            pd.read_parquet(run / "requests.parquet"),
            load_requests(spec_of(run, read_manifest(run)).scenario),
        )
        assert requests["status"].eq("completed").all()
        assert requests["input_length"].tolist() == [one.input_length for one in alone]
        assert read_manifest(run)["spec"]["seed"] == seed
    lengths = [pd.read_parquet(tmp_path / str(seed) / "requests.parquet")["input_length"].tolist() for seed in seeds]
    assert lengths[0] != lengths[1]
    assert host_state() == before


def netkv_run(out: Path, seed: int, mark: str) -> subprocess.Popen[str]:
    """`netkv run` of twelve requests on a small fabric, its processes marked in their environment."""
    small = ("--set", "workload.max_input_tokens=8000", "--set", "workload.max_output_tokens=8")
    command = ("run", "--seed", str(seed), "--requests", "12", *small, *ON_A_SMALL_FABRIC, "--out", str(out), "--quiet")
    name, _, value = mark.partition("=")
    return subprocess.Popen(
        [str(NETKV), *command], env={**os.environ, name: value}, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def controllers(mark: str) -> int:
    return sum("controller.launch" in command_of(pid) for pid in processes_with(mark))


def test_leases_nest_and_the_last_one_restores(own_send_buffer: int) -> None:
    with SendBufferLease():
        with SendBufferLease():
            assert setting_B() == SEND_BUFFER_B
        assert setting_B() == SEND_BUFFER_B
    assert setting_B() == own_send_buffer
    assert not LEASE.exists()


def test_a_lease_outlives_the_one_that_was_taken_first(own_send_buffer: int) -> None:
    first, second = SendBufferLease(), SendBufferLease()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert setting_B() == SEND_BUFFER_B
    second.__exit__(None, None, None)
    assert setting_B() == own_send_buffer


def test_leases_taken_at_the_same_moment_restore_the_original(own_send_buffer: int) -> None:
    crowd = [subprocess.Popen([sys.executable, "-c", HOLD], cwd=ROOT, stdin=subprocess.PIPE) for _ in range(8)]
    for process in crowd:
        process.communicate(timeout=GONE_S)
    wait_until(lambda: not LEASE.exists(), GONE_S, "the end of every guardian")
    assert setting_B() == own_send_buffer


def test_a_killed_holder_gives_back(own_send_buffer: int) -> None:
    with holder() as held:
        assert setting_B() == SEND_BUFFER_B
        held.kill()
        wait_until(lambda: setting_B() == own_send_buffer and not LEASE.exists(), GONE_S, "the setting given back")


def test_a_guardian_outlives_an_interrupt(own_send_buffer: int) -> None:
    with holder() as held:
        guardian = guardian_of(held)
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(guardian, ignored)
        held.kill()
        wait_until(lambda: setting_B() == own_send_buffer, GONE_S, "the setting given back")


def test_the_setting_of_a_killed_guardian_is_reclaimed(own_send_buffer: int) -> None:
    with holder() as held:
        kill_and_wait(guardian_of(held))
        held.kill()
    assert setting_B() == SEND_BUFFER_B
    assert reclaim()
    assert setting_B() == own_send_buffer
    assert not reclaim()


def test_who_outlives_its_guardian_gives_back(own_send_buffer: int) -> None:
    with SendBufferLease() as lease:
        assert lease._guardian is not None
        lease._guardian.kill()
        lease._guardian.wait()
        assert setting_B() == SEND_BUFFER_B
    assert setting_B() == own_send_buffer
    assert not LEASE.exists()


def test_the_next_lease_restores_what_a_killed_guardian_did_not(own_send_buffer: int) -> None:
    with holder() as held:
        kill_and_wait(guardian_of(held))
        held.kill()
    with SendBufferLease():
        assert setting_B() == SEND_BUFFER_B
    assert setting_B() == own_send_buffer


def kill_and_wait(process: int) -> None:
    """SIGKILL a process that is not our child, and return when its locks are gone with it."""
    handle = os.pidfd_open(process)
    os.kill(process, signal.SIGKILL)
    select.select([handle], [], [], 10)
    os.close(handle)


def holder() -> subprocess.Popen[str]:
    """A process that holds a lease until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def guardian_of(process: subprocess.Popen[str]) -> int:
    """Its only child."""
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)
