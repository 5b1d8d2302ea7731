"""A process of its own for runs, for those who must be able to end one at any moment: a thread they cannot.

Orders and answers are bytes that only the two ends need to understand (`world_runner.ordered` and
`world_runner.answered`), so that whoever passes them on, a cluster's worker, loads nothing of what makes a run.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from testbed import child_python

IDLE_S = 10.0
"""A child without work for as long gives back its fabric and ends."""

POLL_S = 0.2
"""How often a parent asks whether the run it waits for is still wanted."""

MOST_DEATHS = 4
"""Processes that may die over one run before it is given up. As many as Dask's own `allowed-failures` (3) permits."""

LENGTH_B = 8
"""Bytes of the length before each order and each answer, big-endian."""


@dataclass(frozen=True)
class FinishedRun:
    """The files of a run's folder, its verdict, and the seconds it took without its bring-up.

    `wall_s` says where the wall time went: `bring_up` (0 on a fabric that was up), `run`, of which `replaying`, and
    `rendering`.
    """

    files: Mapping[str, bytes]
    verdict: Mapping[str, Any]
    took_s: float
    wall_s: Mapping[str, float]


class RunProcessError(RuntimeError):
    """The process of a run ended before the run; the message holds its last words."""


class UnwantedError(Exception):
    """Nobody waits any more for the run that was being made."""


class RunProcess:
    """A child process that makes one run at a time. For one caller at a time."""

    def __init__(self) -> None:
        self._log = os.fdopen(os.memfd_create("run.log"), "w+b")  # lives as long as the child
        self._child = subprocess.Popen(
            child_python("experiments.running.world_runner"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "TMPDIR": tempfile.gettempdir()},  # where a sweep keeps its temporary files
            start_new_session=True,  # Ctrl-C is for the parent to pass on
        )
        self._log_start = 0
        self._idle_since_s = time.monotonic()

    @property
    def usable(self) -> bool:
        """Whether the child can still be given work: it is up and will not just be about to end."""
        return self._child.poll() is None and time.monotonic() - self._idle_since_s < IDLE_S / 2

    def run(self, order: bytes, wanted: Callable[[], bool] = lambda: True) -> bytes:
        """Pass an order to the child and return its answer.

        UnwantedError as soon as `wanted` says no, RunProcessError when the child dies. Only `close` is left to do then.
        """
        stdin, stdout = self._pipes()
        self._log_start = os.fstat(self._log.fileno()).st_size
        try:
            send(order, stdin)
        except BrokenPipeError:
            raise RunProcessError(self._last_words()) from None
        with selectors.DefaultSelector() as waiting:
            waiting.register(stdout, selectors.EVENT_READ)
            while not waiting.select(POLL_S):
                if not wanted():
                    raise UnwantedError
        answer = receive(stdout)
        if answer is None:
            raise RunProcessError(self._last_words())
        self._idle_since_s = time.monotonic()
        return answer

    def close(self) -> None:
        """End the child, whatever it is doing; the kernel ends a sandbox with it."""
        self._child.kill()
        self._child.wait()
        for pipe in self._pipes():
            with suppress(BrokenPipeError):  # of an order that the child did not live to take
                pipe.close()
        self._log.close()

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        return self._child.stdin, self._child.stdout

    def _last_words(self) -> str:
        code = self._child.wait()
        self._log.seek(self._log_start)  # what earlier runs have printed says nothing of this one
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        ended += " (out of memory?)" if code == -signal.SIGKILL else ""  # that is what the kernel then sends
        return f"the process of the run {ended}: {lines[-1] if lines else 'it left no message'}"


def send(message: bytes, channel: IO[bytes]) -> None:
    """Write a message that `receive` can tell from the next one."""
    channel.write(len(message).to_bytes(LENGTH_B, "big") + message)
    channel.flush()


def receive(channel: IO[bytes]) -> bytes | None:
    """The next message; None when the other end is gone."""
    length = channel.read(LENGTH_B)
    if len(length) < LENGTH_B:
        return None
    message = channel.read(expected := int.from_bytes(length, "big"))
    return message if len(message) == expected else None
