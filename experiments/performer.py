"""One run after another, on as few bring-ups as their fabrics allow: in this process, or in one of its own.

A *stage* holds the world that is up and exchanges it when a run needs another. A *performer* is a stage in a child
process, for those who must be able to end a run at any moment (a thread of a cluster's worker cannot be). The child
reads runs from its input and writes what became of them to its output, both pickled; it ends with its parent, however
that ended, and the kernel ends a sandbox with it.
"""

from __future__ import annotations

import os
import pickle
import queue
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any

from experiments.spec import RunSpec
from experiments.store import render_run
from experiments.worlds import OpenWorld, Progress, Say, open_world, same_fabric, verdict_of

IDLE_S = 10.0
"""A child without work for as long gives back its fabric and ends."""

POLL_S = 0.2
"""How often a parent asks whether the run it waits for is still wanted."""

Opening = Callable[[RunSpec, Say], AbstractContextManager[OpenWorld]]


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


class PerformerError(RuntimeError):
    """The process of a run ended before the run; the message holds its last words."""


class UnwantedError(Exception):
    """Nobody waits any more for the run that was being performed."""


class Stage:
    """Runs one specification after another; what it holds open is given back at the end of its context."""

    def __init__(self, opening: Opening = open_world) -> None:
        self._opening = opening
        self._held = ExitStack()
        self._world: OpenWorld | None = None
        self._spec: RunSpec | None = None
        self._bring_up_s = 0.0

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def world_for(self, spec: RunSpec, say: Say = lambda _: None) -> OpenWorld:
        """A world in which `spec` can run: the one that is up, or a new one in its place."""
        if self._world is None or self._spec is None or not same_fabric(self._spec, spec):
            self.close()
            say(f"bringing up the fabric of the {spec.world} world")
            started_s = time.monotonic()
            self._world, self._spec = self._held.enter_context(self._opening(spec, say)), spec
            self._bring_up_s += time.monotonic() - started_s
        return self._world

    def perform(self, spec: RunSpec, say: Say = lambda _: None, progress: Progress = lambda _: None) -> FinishedRun:
        """Run it. The errors of its world, which is closed then: what broke in it must not spoil the next run."""
        world = self.world_for(spec, say)
        started_s = time.monotonic()
        try:
            outcome = world.run(spec.scenario, progress)
        except BaseException:
            self.close()
            raise
        took_s = time.monotonic() - started_s
        verdict = verdict_of(spec, outcome)
        files = render_run(spec, outcome, verdict)
        wall_s = {
            "bring_up": self._bring_up_s,
            "run": took_s,
            "replaying": outcome.evidence.get("wall_s", {}).get("replaying", took_s),
            "rendering": time.monotonic() - started_s - took_s,
        }
        self._bring_up_s = 0.0
        return FinishedRun(files, verdict, took_s, wall_s)

    def close(self) -> None:
        """Give back the world that is up."""
        self._world = self._spec = None
        self._held.close()


class Performer:
    """A stage in a child process. For one caller at a time."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self._child = subprocess.Popen(
            [sys.executable, "-c", "from experiments.performer import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is for the parent to pass on
        )
        self._idle_since_s = time.monotonic()

    @property
    def fresh(self) -> bool:
        """Whether the child can still be given work: it is up and will not just be about to end."""
        return self._child.poll() is None and time.monotonic() - self._idle_since_s < IDLE_S / 2

    def perform(self, spec: RunSpec, wanted: Callable[[], bool] = lambda: True) -> FinishedRun:
        """Run it in the child and return what became of it, or raise the error that it raised there.

        UnwantedError as soon as `wanted` says no, PerformerError when the child dies; the performer is spent then.
        """
        stdin, stdout = self._pipes()
        try:
            pickle.dump(spec, stdin)
            stdin.flush()
        except BrokenPipeError:
            raise PerformerError(self._last_words()) from None
        with selectors.DefaultSelector() as waiting:
            waiting.register(stdout, selectors.EVENT_READ)
            while not waiting.select(POLL_S):
                if not wanted():
                    raise UnwantedError
        try:
            answer: FinishedRun | Exception = pickle.load(stdout)
        except (EOFError, pickle.UnpicklingError):
            raise PerformerError(self._last_words()) from None
        self._idle_since_s = time.monotonic()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """End the child, whatever it is doing; the kernel ends a sandbox with it."""
        self._child.kill()
        self._child.wait()
        for pipe in self._pipes():
            pipe.close()
        self._log.close()

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        return self._child.stdin, self._child.stdout

    def _last_words(self) -> str:
        code = self._child.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"the process of the run {ended}: {lines[-1] if lines else 'it left no message'}"


def main() -> None:
    """Body of the child: perform what arrives until nothing has for a while, or the parent is gone."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a policy that prints must not print into the answers
    orders: queue.SimpleQueue[RunSpec] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(orders,), daemon=True).start()
    with Stage() as stage:
        while True:
            try:
                spec = orders.get(timeout=IDLE_S)
            except queue.Empty:
                return
            try:
                answer: FinishedRun | Exception = stage.perform(spec)
            except Exception as problem:  # the parent raises it again
                answer = problem
            answers.write(_pickled(answer))
            answers.flush()


def _receive(orders: queue.SimpleQueue[RunSpec]) -> None:
    arriving = os.fdopen(os.dup(sys.stdin.fileno()), "rb")  # the interpreter wants its own for itself when it ends
    while True:
        try:
            orders.put(pickle.load(arriving))
        except EOFError:
            os._exit(1)  # the parent is gone, and with it whoever wanted the run


def _pickled(answer: FinishedRun | Exception) -> bytes:
    try:
        made = pickle.dumps(answer)
        pickle.loads(made)
    except Exception as problem:  # an error of somebody else's code, of a shape that does not travel
        return pickle.dumps(PerformerError(f"{type(answer).__name__}: {answer} ({problem})"))
    return made
