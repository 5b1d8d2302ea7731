"""One run after another, on as few bring-ups as their fabrics allow: in this process, or in that of a `RunProcess`.

A `WorldRunner` holds the world that is up and exchanges it when a run needs another. `main` is what a `RunProcess`
starts: it makes the runs that are ordered on its input, and ends with its parent, however that ended; the kernel ends a
sandbox with it.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType

from experiments.running.code_identity import OtherCodeError, code_identity, difference_of_code, digest_of
from experiments.running.run_process import IDLE_S, FinishedRun, RunProcessError, receive, send
from experiments.running.run_spec import RunSpec
from experiments.running.store import render_run
from experiments.running.worlds import OpenWorld, Progress, Say, open_world, same_fabric, verdict_of

Opening = Callable[[RunSpec, Say], AbstractContextManager[OpenWorld]]


class WorldRunner:
    """Runs one specification after another; what it holds open is given back at the end of its context."""

    def __init__(self, opening: Opening = open_world) -> None:
        self._opening = opening
        self._held = ExitStack()
        self._world: OpenWorld | None = None
        self._spec: RunSpec | None = None
        self._bring_up_s = 0.0

    def __enter__(self) -> WorldRunner:
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

    def run(self, spec: RunSpec, say: Say = lambda _: None, progress: Progress = lambda _: None) -> FinishedRun:
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


def ordered(spec: RunSpec, code: dict[str, str]) -> bytes:
    """A run as `main` takes it, from whoever has this code and its trace."""
    return pickle.dumps((spec, code | _trace_of(spec)))


def _trace_of(spec: RunSpec) -> dict[str, str]:
    return {} if spec.workload.trace is None else {str(spec.workload.trace): digest_of(spec.workload.trace)}


def answered(answer: bytes) -> FinishedRun:
    """What `main` has made of a run; the error that it ended with is raised here."""
    made: FinishedRun | Exception = pickle.loads(answer)
    if isinstance(made, Exception):
        raise made
    return made


def main() -> None:
    """What a `RunProcess` starts: make what is ordered until nothing has been for a while, or the parent is gone."""
    code = code_identity()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a policy that prints must not print into the answers
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(orders,), daemon=True).start()
    with WorldRunner() as runner:
        while True:
            try:
                order = orders.get(timeout=IDLE_S)
            except queue.Empty:
                return
            send(_answer_to(order, runner, code), answers)


def _answer_to(order: bytes, runner: WorldRunner, code: dict[str, str]) -> bytes:
    made: FinishedRun | Exception
    try:
        spec, wanted = pickle.loads(order)
        if difference := difference_of_code(wanted, code | _trace_of(spec)):
            raise OtherCodeError(difference)
        made = runner.run(spec)
    except Exception as problem:  # whoever ordered the run raises it again
        made = problem
    try:
        answer = pickle.dumps(made)
        pickle.loads(answer)
    except Exception as problem:  # an error of somebody else's code, of a shape that does not travel
        return pickle.dumps(RunProcessError(f"{type(made).__name__}: {made} ({problem})"))
    return answer


def _receive(orders: queue.SimpleQueue[bytes]) -> None:
    arriving = os.fdopen(os.dup(sys.stdin.fileno()), "rb")  # the interpreter wants its own for itself when it ends
    while (order := receive(arriving)) is not None:
        orders.put(order)
    os._exit(1)  # the parent is gone, and with it whoever wanted the run


if __name__ == "__main__":
    main()
