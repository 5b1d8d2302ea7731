"""Runs of a sweep in processes of this machine: what `--jobs` asks for.

Each process is a `RunProcess` that a thread here feeds over pipes, so nothing listens. Code is compiled once: processes
share what numba keeps on disk.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from experiments.running.code_identity import code_identity
from experiments.running.errors import BrokenClusterError
from experiments.running.run_process import MOST_DEATHS, FinishedRun, RunProcess, RunProcessError, UnwantedError
from experiments.running.run_spec import RunSpec
from experiments.running.world_runner import answered, ordered
from testbed import reclaim

Say = Callable[[str], None]
Ended = tuple[str, FinishedRun | BaseException]


class LocalProcesses:
    """`jobs` processes of this machine, one run at a time in each."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs

    def run_all(self, specs: Mapping[str, RunSpec], say: Say) -> Iterator[tuple[str, FinishedRun]]:
        """Every run by its name, in the order in which they end. Emulated ones first, one at a time and nothing beside.

        The error of the first run that fails; BrokenClusterError when processes die again and again over one.
        """
        for world, jobs in (("emulated", 1), ("analytic", self._jobs)):
            part = {name: spec for name, spec in specs.items() if spec.world == world}
            if part:
                at_a_time = min(jobs, len(part))
                say(f"{at_a_time} {world} run{'s' * (at_a_time != 1)} at a time on {self._jobs} local processes")
                try:
                    yield from _Batch(part).run(at_a_time)
                finally:
                    if world == "emulated":  # these processes are killed, and perhaps their guardian was before
                        with suppress(PermissionError):
                            reclaim()


class _Batch:
    """Runs that any process may make, and the threads that have them made."""

    def __init__(self, specs: Mapping[str, RunSpec]) -> None:
        self._specs = specs
        self._code = code_identity()
        self._waiting = deque(specs)
        self._deaths = Counter[str]()
        self._ended = queue.SimpleQueue[Ended]()
        self._over = threading.Event()

    def run(self, at_a_time: int) -> Iterator[tuple[str, FinishedRun]]:
        threads = [threading.Thread(target=self._work) for _ in range(at_a_time)]
        for thread in threads:
            thread.start()
        failed: BaseException | None = None
        try:
            for _ in self._specs:
                name, made = self._ended.get()
                if isinstance(made, FinishedRun):
                    yield name, made
                else:
                    failed = made
                    break
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        if failed is not None:
            while not self._ended.empty():  # what is finished is kept
                name, made = self._ended.get()
                if isinstance(made, FinishedRun):
                    yield name, made
            raise failed

    def _work(self) -> None:
        """Have one run after another made in a process of this thread, another where that dies."""
        process: RunProcess | None = None
        with suppress(IndexError, UnwantedError):  # no run is left, or nobody waits any more
            while not self._over.is_set():
                name = self._waiting.popleft()
                try:
                    if process is None or not process.usable:
                        process = _instead_of(process)
                    order = ordered(self._specs[name], self._code)
                    self._ended.put((name, answered(process.run(order, lambda: not self._over.is_set()))))
                except UnwantedError:
                    break
                except RunProcessError as problem:
                    self._deaths[name] += 1
                    if self._deaths[name] == MOST_DEATHS:
                        self._ended.put((name, BrokenClusterError(f"{name}: given up: {MOST_DEATHS} times {problem}")))
                        break
                    self._waiting.appendleft(name)
                except BaseException as problem:  # whoever waits for the runs raises it again
                    self._ended.put((name, problem))
                    break
        if process is not None:
            process.close()


def _instead_of(process: RunProcess | None) -> RunProcess:
    if process is not None:
        process.close()
    return RunProcess()
