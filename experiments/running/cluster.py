"""Runs of a sweep on the workers of a Dask cluster that somebody else has started.

The unit of work is a run. Its files come back as bytes, so no file system is shared and only the client writes. A
worker hands each run to a `RunProcess`, a process of its own that keeps its fabric up for the next run: a run that
nobody waits for any more can be ended at once, and one that breaks its process does not break the worker. Dask is
loaded only when it is used: it takes longer than all else.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from experiments.running.code_identity import OtherCodeError, code_identity, difference_of_code
from experiments.running.errors import BrokenClusterError, ClusterError
from experiments.running.run_process import MOST_DEATHS, FinishedRun, RunProcess, RunProcessError, UnwantedError

if TYPE_CHECKING:  # a worker, which imports this module, passes runs on without knowing them
    from experiments.running.run_spec import RunSpec

EMULATION = "netkv-emulation"
"""The worker resource that an emulated run takes: who has one of it carries one such run at a time."""

ADDRESS = re.compile(r"((tcp|tls|wss?)://)?[^\s/]+:\d{1,5}")
CONNECT_S = 10.0
PATIENCE_S = 60.0
"""How long a sweep waits for a worker that can take its runs, once it has had one: a killed one is started anew."""

POLL_S = 1.0
Say = Callable[[str], None]


class Cluster:
    """The workers behind a Dask client."""

    def __init__(self, client: Any, place: str) -> None:
        self._client = client
        self._place = place

    def run_all(self, specs: Mapping[str, RunSpec], say: Say) -> Iterator[tuple[str, FinishedRun]]:
        """Every run by its name, in the order in which they end. Emulated ones first: their machines do nothing else.

        The error of the first run that fails; ClusterError when the workers cannot run them or run other code,
        BrokenClusterError when they go.
        """
        code = code_identity()
        for world in ("emulated", "analytic"):
            part = {name: spec for name, spec in specs.items() if spec.world == world}
            if part:
                self._check(world, code)
                yield from self._run_part(world, part, code, say)

    def _run_part(
        self, world: str, specs: Mapping[str, RunSpec], code: dict[str, str], say: Say
    ) -> Iterator[tuple[str, FinishedRun]]:
        from distributed import wait
        from distributed.client import FuturesCancelledError

        waiting, deaths = deque(specs), Counter[str]()
        running: dict[Any, str] = {}
        ended: list[tuple[str, FinishedRun]] = []
        had_slots_s = time.monotonic()
        try:
            while waiting or running:
                # No more than there are slots: Dask blames whatever a dead worker had been given for its death.
                slots = self._slots(world)
                while waiting and len(running) < slots:
                    name = waiting.popleft()
                    running[self._submit(name, specs[name], code)] = name
                say(f"{len(running)} {world} run{'s' * (len(running) != 1)} at a time on {self._place}")
                yield from ended  # to be written while the next ones run
                ended.clear()
                had_slots_s = time.monotonic() if slots else had_slots_s
                if time.monotonic() - had_slots_s > PATIENCE_S:
                    raise BrokenClusterError(f"{self._place}: no worker has been left for {PATIENCE_S:g} s")
                if not running:
                    time.sleep(POLL_S)
                    continue
                try:
                    done = wait(list(running), timeout=POLL_S, return_when="FIRST_COMPLETED").done
                except TimeoutError:
                    continue
                for future in done:
                    name = running.pop(future)
                    try:
                        ended.append((name, self._finished(future, name)))
                    except RunProcessError as problem:
                        deaths[name] += 1
                        if deaths[name] == MOST_DEATHS:
                            raise BrokenClusterError(f"{name}: given up: {MOST_DEATHS} times {problem}") from None
                        waiting.appendleft(name)
            yield from ended
        except FuturesCancelledError:
            raise self._gone() from None
        except Exception:
            yield from ended  # what is finished is kept
            raise
        finally:
            self._client.cancel(list(running))

    def _submit(self, name: str, spec: RunSpec, code: dict[str, str]) -> Any:
        from experiments.running.world_runner import ordered

        resources = {EMULATION: 1} if spec.world == "emulated" else None
        key = f"{name}-{uuid.uuid4().hex}"
        return self._client.submit(run_on_worker, ordered(spec, code), key=key, resources=resources, pure=False)

    def _finished(self, future: Any, name: str) -> FinishedRun:
        """What came of a run. The error that it raised; RunProcessError when its process died, perhaps by chance."""
        from distributed import KilledWorker

        from experiments.running.world_runner import answered

        try:
            return answered(future.result())
        except KilledWorker as problem:
            raise BrokenClusterError(f"{name}: given up: {problem.allowed_failures + 1} workers died of it") from None
        except OtherCodeError as problem:
            raise ClusterError(
                f"{self._place}: a worker has other code or another trace than this machine: {problem}"
            ) from None

    def _workers(self) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        except (OSError, RuntimeError):
            raise self._gone() from None
        return found

    def _gone(self) -> BrokenClusterError:
        return BrokenClusterError(f"{self._place}: the scheduler is gone")

    def _slots(self, world: str) -> int:
        """How many runs of a world the workers can have at a time."""
        if world == "analytic":
            return sum(worker["nthreads"] for worker in self._workers().values())
        held = ((worker["nthreads"], worker["resources"].get(EMULATION, 0)) for worker in self._workers().values())
        return sum(min(threads, int(units)) for threads, units in held)

    def _check(self, world: str, code: dict[str, str]) -> None:
        """ClusterError unless there are workers for this world, and all of them run our code."""
        start = f"`dask worker {self._place} --nthreads 1"
        if not self._workers():
            raise ClusterError(f"{self._place}: the cluster has no worker (start some with {start}`)")
        if not self._slots(world):
            raise ClusterError(
                f"{self._place}: no worker may emulate (start one, as root, with {start} --resources {EMULATION}=1`)"
            )
        for address, found in self._client.run(_code_of_worker, on_error="return").items():
            if isinstance(found, OSError | CancelledError):
                continue  # it died just now; who comes in its place compares the code with each run
            if isinstance(found, Exception):
                raise ClusterError(f"worker {address}: cannot run this version of netkv: {found}")
            if difference := difference_of_code(code, found):
                raise ClusterError(f"worker {address}: runs other code than this machine: {difference}")


@contextmanager
def existing_cluster(address: str) -> Iterator[Cluster]:
    """The cluster whose scheduler listens at an address such as `tcp://host:8786`. ClusterError when none does."""
    if not ADDRESS.fullmatch(address):
        raise ClusterError(f"--dask {address}: the address of a scheduler was expected, such as tcp://host:8786")
    from distributed import Client

    _quiet()
    try:
        client = Client(address, timeout=CONNECT_S)
    except (OSError, ValueError, TypeError) as problem:  # TypeError: TLS without its keys
        raise ClusterError(f"{address}: no Dask scheduler can be reached there: {problem}") from None
    with client:
        yield Cluster(client, address)


def run_on_worker(order: bytes) -> bytes:
    """Body of a task: the answer of a run process of this worker. RunProcessError when that dies of the run."""
    from distributed import Reschedule, get_worker

    worker = get_worker()
    task = worker.state.tasks[worker.get_current_task()]

    def wanted() -> bool:
        return task.state == "executing" and worker.status.name not in ("closing", "closed", "failed")

    process = _run_processes.take()
    try:
        answer = process.run(order, wanted)
    except UnwantedError:
        process.close()
        raise Reschedule from None  # nobody waits for it here; if anybody still does elsewhere, it is run there
    except BaseException:
        process.close()
        raise
    _run_processes.give_back(process)
    return answer


def _code_of_worker() -> dict[str, str]:
    return code_identity()


class _RunProcesses:
    """Those of one worker that are between two runs."""

    def __init__(self) -> None:
        self._idle: list[RunProcess] = []
        self._changing = threading.Lock()

    def take(self) -> RunProcess:
        with self._changing:
            while self._idle:
                process = self._idle.pop()
                if process.usable:
                    return process
                process.close()
        return RunProcess()

    def give_back(self, process: RunProcess) -> None:
        with self._changing:
            self._idle.append(process)


_run_processes = _RunProcesses()


def _quiet() -> None:
    """Dask tells of every lost connection; what of it a user must know is in the errors here."""
    for name in ("distributed", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
