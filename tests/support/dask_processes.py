"""A real Dask scheduler and its workers, each a process on loopback, all gone at the end of the test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.paths import ROOT

LOOPBACK = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
DEADLINE_S = 60.0
"""Guards against hanging, no more: a busy machine may take a while."""

IMPATIENT = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}


@contextmanager
def scheduler(folder: Path) -> Iterator[str]:
    """The address of a scheduler with no workers yet, which gives a task up when the second worker dies of it."""
    told = folder / "scheduler.json"
    with process("dask_scheduler", *LOOPBACK, "--port", "0", "--scheduler-file", str(told)):
        wait_until(lambda: told.exists() and told.stat().st_size > 0, "the scheduler")
        yield json.loads(told.read_text())["address"]


@contextmanager
def workers(address: str, folder: Path, *resources: Mapping[str, int]) -> Iterator[None]:
    """A worker of one thread for each of some resources, each with the nanny that starts it anew."""
    with ExitStack() as held:
        for held_resources in resources:
            told = " ".join(f"{name}={units}" for name, units in held_resources.items())
            options = ["--nthreads", "1", "--no-dashboard", "--local-directory", str(folder)]
            options += ["--resources", told] if told else []
            held.enter_context(process("dask_worker", address, "--host", "127.0.0.1", *options))
        yield


@contextmanager
def process(module: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Dask process and, by the session it leads, all that it starts."""
    command = [sys.executable, "-m", f"distributed.cli.{module}", *options]
    started = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **IMPATIENT},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def wait_until(true: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """TimeoutError with `what` was waited for, unless a condition holds soon."""
    started_s = time.monotonic()
    while not true():
        if time.monotonic() - started_s > deadline_s:
            raise TimeoutError(f"{what}: not within {deadline_s:g} s")
        time.sleep(0.02)
