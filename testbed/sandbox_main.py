"""The first process of a sandbox: brings the fabric up, then runs scenarios on command.

Exchanges JSON lines with `testbed.emulated_world` on the host. The first line read has fabric, emulation and the
descriptor of the host's network namespace (`testbed.host_network`), every further one is {"run": scenario,
"look_every_s": n or null} or {"watch": scenario, "seconds": n}; lines written are {"say": ...}, {"up": ...},
{"done": n}, {"look": ...}, {"alive": true}, {"outcome": ...}, {"watched": true} or {"error": ..., "broken": true where
something broke that was there}. It ends at the end
of its input, also when its parent dies; the kernel then removes everything in the sandbox.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import IO, Any

from scenario import Scenario, load_workload
from scheduler import Dispatcher, PolicyError, policy_of
from serving import Watch, note_paths
from simulator import warm_caches
from testbed.capture import CaptureOrder, Captures
from testbed.clean_state import CleanState
from testbed.ecmp import trace_paths
from testbed.emulated_run import EmulatedRun
from testbed.emulation import EmulationSpec
from testbed.errors import BrokenRunError, TestbedError
from testbed.fabric_up import FabricUp, bring_up
from testbed.host_network import HostNetwork
from testbed.sandbox import prepare_sandbox
from testbed.telemetry_watch import watch as watch_telemetry
from testbed.worker_pool import BACKGROUND_PORT
from topologies import FabricError
from workloads import WorkloadError

EXPECTED = (TestbedError, PolicyError, FabricError, WorkloadError)

ALIVE_S, LONGEST_WORK_S = 15.0, 900.0
"""A run of an hour takes minutes to sum up on a busy machine, and whoever waits for a line gives up after 90 s."""


class HostChannel:
    """JSON lines to and from the host's process (`testbed.emulated_world`). The end of input ends this process."""

    def __init__(self) -> None:
        self._out: IO[str] = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        os.dup2(2, 1)  # other output must not break the protocol
        self._writing = threading.Lock()
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def next_line(self) -> Any:
        return json.loads(self._lines.get())

    def send(self, **message: Any) -> None:
        line = json.dumps(message) + "\n"
        with self._writing:
            self._out.write(line)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Meanwhile says that this process lives, every `ALIVE_S` and no longer than `LONGEST_WORK_S`."""
        over = threading.Event()

        def tell() -> None:
            for _ in range(round(LONGEST_WORK_S / ALIVE_S)):
                if over.wait(ALIVE_S):
                    return
                self.send(alive=True)

        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _read(self) -> None:
        for line in sys.stdin:
            self._lines.put(line)
        os._exit(0)


def main() -> int:
    host = HostChannel()
    task = host.next_line()
    try:
        scenario = Scenario.model_validate(task["scenario"])
        emulation = EmulationSpec.model_validate(task["emulation"])
        capture = CaptureOrder(**task["capture"])
        host_network = HostNetwork(task["host_network"])
        prepare_sandbox()
        fabric, _ = scenario.build()
        compilation = threading.Thread(target=_compile_ahead, args=(scenario,), daemon=True)
        compilation.start()
        up = bring_up(
            fabric,
            emulation,
            poll_s=scenario.oracle.poll_s * emulation.time_dilation,
            ecmp_seed=emulation.ecmp_seed,
            say=lambda text: host.send(say=text),
        )
        compilation.join()
        host.send(up={"datapath": up.datapath, "datapath_reason": up.datapath_reason})
        while True:
            order = host.next_line()
            if "run" in order:
                every_s = order["look_every_s"]
                watch = None if every_s is None else Watch(every_s, lambda look: host.send(look=look.as_json()))
                scenario = Scenario.model_validate(order["run"])
                replay(up, scenario, capture, host, host_network, watch)
            else:
                wanted = Scenario.model_validate(order["watch"])
                asyncio.run(watch_telemetry(up, wanted, order["seconds"], lambda look: host.send(look=look)))
                host.send(watched=True)
    except EXPECTED as problem:
        host.send(error=str(problem), broken=isinstance(problem, BrokenRunError))
        return 2


def replay(
    up: FabricUp,
    scenario: Scenario,
    capture: CaptureOrder,
    host: HostChannel,
    host_network: HostNetwork,
    watch: Watch | None,
) -> None:
    """Run one scenario on the fabric that is up and send its Outcome as plain data.

    The checks for a clean fabric wait for other processes, so other work is done while they run.
    """
    began_s = time.monotonic()
    clean_state = CleanState(up)
    with ThreadPoolExecutor(max_workers=1) as background_thread:
        clean_start = background_thread.submit(clean_state.prove)
        fabric, roles = scenario.build()
        if fabric.spec != up.fabric.spec:
            raise TestbedError(
                "fabric: this scenario needs another fabric than the one that is up; open a new world for it"
            )
        workload = load_workload(scenario)
        requests = workload.requests
        ahead = policy_of(scenario, host_network.dial) if workload.preceding else None
        warm = warm_caches(scenario, fabric, roles, workload.preceding, ahead)
        policy = policy_of(scenario, host_network.dial)
        background = scenario.background(fabric, roles, requests[-1].timestamp_s if requests else 0.0)
        with ExitStack() as until_sent:
            work = EmulatedRun(
                up,
                scenario,
                roles,
                requests,
                background,
                say=lambda done: host.send(done=done),
                policy=policy,
                prefixes=warm.prefixes,
                watch=watch,
                over=lambda: until_sent.enter_context(host.at_work()),
            )
            proofs = {"clean_start": clean_start.result()}
            with Captures(fabric, capture, up.split) as captures:
                outcome = asyncio.run(work.run())
            clean_end = background_thread.submit(clean_state.prove)
            if captures.rows:
                outcome.evidence["captures"] = captures.rows
            trace_paths(fabric, outcome, BACKGROUND_PORT)
            last_arrival_s = requests[-1].timestamp_s if requests else 0.0
            note_paths(scenario.fault_plan(fabric, roles, last_arrival_s), fabric, outcome)
            outcome.evidence |= proofs | warm.evidence | {"clean_end": clean_end.result()}
            outcome.evidence["wall_s"] = {
                "run": round(time.monotonic() - began_s, 3),
                "replaying": round(outcome.duration_s * up.spec.time_dilation, 3),
            }
            host.send(outcome=asdict(outcome))


def _compile_ahead(scenario: Scenario) -> None:
    """Compile the code that the first run would otherwise wait for."""
    Dispatcher(scenario.model_copy(update={"policy": "netkv_full"}), *scenario.build())


if __name__ == "__main__":
    sys.exit(main())
