"""Something is killed at random moments: the first ones of `python -m tests.bench.kill_anything`, and its parts."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter

import pytest

from tests.support.command_line import CommandLine
from tests.support.hangups import hears_hangups
from tests.support.killing.plan import (
    COMMAND_LINE,
    JOBS,
    RUN,
    SIGNALS,
    SWEEP,
    Moment,
    allowed_codes,
    moments,
    role_of,
    victim,
)
from tests.support.killing.trial import KillingGround, without_last_words
from tests.support.paths import ROOT

pytestmark = pytest.mark.xdist_group("killing")

FEW, SEED = 3, 2606
"""Of a run, a sweep, and one with --jobs. `make kill` takes a hundred moments."""

CALLED_BACK = """
import ctypes, os, signal, time
from experiments import cli

def inside():
    os.kill(os.getpid(), signal.SIGHUP)

def app():
    ctypes.CFUNCTYPE(None)(inside)()
    time.sleep(60)

cli.app = app
cli.main()
"""

SPAWNED = "python -c from multiprocessing.spawn import spawn_main"
BELOW = {
    11: f"{SPAWNED}; spawn_main(3)",
    12: f"{SPAWNED}; spawn_main(4)",
    13: "python -P -m experiments.running.world_runner",
}


@pytest.fixture(scope="module")
def ground(server: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> KillingGround:
    folder = tmp_path_factory.mktemp("kill")
    return KillingGround(folder, CommandLine(server, ROOT, folder), "analytic")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(FEW))
def test_what_is_killed_leaves_nothing_and_goes_on(ground: KillingGround, number: int) -> None:
    moment = moments(SEED, FEW)[number]
    print(f"python -m tests.bench.kill_anything --seed {SEED} --only {number}")
    assert ground.kill(moment).faults == (), str(moment)


def test_a_signal_that_comes_while_c_calls_python_back_is_not_lost() -> None:
    command = [sys.executable, "-c", CALLED_BACK]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False, preexec_fn=hears_hangups
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (128 + signal.SIGHUP, 1), done.stderr
    assert done.stderr.startswith("netkv: interrupted")


# The plan


def test_a_moment_is_its_seed_and_number() -> None:
    assert moments(5, 100) == moments(5, 200)[:100] != moments(6, 100)


@pytest.mark.parametrize("world", ["analytic", "emulated"])
def test_a_few_hundred_moments_reach_every_command_and_process_with_every_signal(world: str) -> None:
    made = moments(7, 300, world)
    assert set(Counter(moment.signals for moment in made).values()) == {60}
    assert {moment.command for moment in made} == {RUN, SWEEP, JOBS}
    below = [moment for moment in made if moment.below]
    assert {moment.command for moment in below} == ({JOBS} if world == "analytic" else {RUN, SWEEP, JOBS})
    assert {moment.signals for moment in below} == set(SIGNALS)
    assert min(moment.at for moment in made) < 0.1
    assert max(moment.at for moment in made) > 0.9


def moment_with(below: bool, pick: float) -> Moment:
    return Moment(0, JOBS, (signal.SIGKILL,), below, 0.5, pick, 0.0)


@pytest.mark.parametrize(
    ("below", "pick", "hit"),
    [
        (False, 0.9, (10, COMMAND_LINE)),
        (True, 0.0, (11, "Dask worker")),
        (True, 0.3, (12, "Dask worker")),
        (True, 0.6, (13, "run process")),
    ],
)
def test_each_role_is_as_likely_as_every_other(below: bool, pick: float, hit: tuple[int, str]) -> None:
    assert victim(moment_with(below, pick), 10, BELOW) == hit


def test_where_nothing_is_below_the_command_line_is_hit() -> None:
    assert victim(moment_with(True, 0.5), 10, {}) == (10, COMMAND_LINE)


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("/usr/bin/python3 -I -S /netkv/testbed/send_buffer.py", "guardian"),
        ("ovs-vswitchd unix:/run/openvswitch/db.sock --pidfile", "vswitchd"),
        ("python -P -m testbed.sandbox_main", "sandbox"),
        ("python -P -m controller /run/netkv/controller.json", "controller"),
        ("python -I -S -c import runpy workers.decode 3", "worker"),
        ("git rev-parse HEAD", "other"),
    ],
)
def test_a_process_is_known_by_its_command(command: str, role: str) -> None:
    assert role_of(command) == role


def test_bad_input_is_never_the_answer_to_a_kill() -> None:
    for world in ("analytic", "emulated"):
        for role in (COMMAND_LINE, "Dask worker", "vswitchd"):
            assert all(2 not in allowed_codes(signals, role, world) for signals in SIGNALS)
    assert allowed_codes((signal.SIGHUP,), COMMAND_LINE, "analytic") == {0, 129, -1}
    assert allowed_codes((signal.SIGSTOP, signal.SIGKILL), COMMAND_LINE, "analytic") == {0, -9}


def test_an_interpreter_that_is_interrupted_while_it_starts_is_no_fault_and_any_other_traceback_is() -> None:
    start = 'Traceback (most recent call last):\n  File "re/_compiler.py", line 579, in _code\n    charmap[i] = 1\n'
    assert without_last_words(f"{start}KeyboardInterrupt\nnetkv: one line\n") == "netkv: one line\n"
    assert "Traceback" in without_last_words(f"{start}KeyError: 3\n")
    tracker = start.replace("re/_compiler.py", "multiprocessing/resource_tracker.py") + "KeyError: '/mp-gy3f9zjs'\n"
    assert without_last_words(f"{tracker}{tracker}netkv: one line\n") == "netkv: one line\n"
