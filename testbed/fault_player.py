"""Carries out the faults of a run in the emulated world: interfaces, shapers, filters, processes and the controller.

What is broken when is the plan's (`scenario.fault_plan`); what it does to requests and telemetry is the lifecycle's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from scenario import Fault, FaultState, fault_edges
from serving import FaultRecord, Lifecycle
from testbed.fabric_up import FabricUp
from testbed.run_clock import RunClock
from testbed.sandbox import run
from testbed.worker_pool import WorkerPool
from topologies import Fabric, Shape, lossless_command, lossy_command, rate_command
from topologies.mininet import interface_of

RESTORED_S = 30.0
"""Longest wait, wall seconds, until the controller has programmed a fabric that is whole again."""

SIGN_OF_LIFE_S = 10.0
"""Between two signs of life to the host while all is paused, wall seconds."""


class FaultPlayer:
    """Plays a plan of faults on the run's clock; `restore` undoes what is left of it, for the next run."""

    def __init__(
        self,
        up: FabricUp,
        plan: tuple[Fault, ...],
        clock: RunClock,
        life: Lifecycle,
        say: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._up = up
        self._life = life
        self._say = say
        self._edges = fault_edges(plan)
        self._clock = clock
        self._in_force = FaultState()
        self.record = FaultRecord(up.fabric, life)

    async def play(self, pool: WorkerPool) -> None:
        """Begin and end every fault at its time."""
        for edge in self._edges:
            await self._clock.until(edge.at_s)
            before, after = self.record.step(edge, self._clock.now_s())
            for role, instance in sorted(after.dead - before.dead):
                pool.kill(role, instance)
                self.record.worker_lost(edge.fault, role, instance, self._clock.now_s())
            await self._apply(after, pool)
            if edge.begins and edge.fault.kind == "machine_paused":
                self._pause_until(edge.fault.until_s)

    def _pause_until(self, real_s: float) -> None:
        """Stop all other processes of the sandbox, and do nothing in this one."""
        with every_other_process_stopped():
            while (left_s := (real_s - self._clock.now_s()) * self._clock.dilation) > 0:
                self._say(self._life.closed)  # or the host takes the sandbox for dead
                time.sleep(min(left_s, SIGN_OF_LIFE_S))

    async def restore(self, pool: WorkerPool) -> None:
        """Make the fabric and its workers whole again. TestbedError when the controller does not come back."""
        if self._in_force != FaultState():
            await self._apply(FaultState(), pool)
            await asyncio.to_thread(self._up.wait_until_programmed, RESTORED_S)
        await pool.revive()

    async def _apply(self, after: FaultState, pool: WorkerPool) -> None:
        """Carry out the difference to what is in force. Workers that are to die are dead already."""
        before, self._in_force = self._in_force, after
        for instance in sorted(after.hung ^ before.hung):
            pool.pause(instance, instance in after.hung)
        for role, instance in sorted(before.dead - after.dead):
            pool.start(role, instance)
        for namespace, command in network_commands(self._up, before, after):
            shell = ("sh", "-ec", command)
            if namespace is None:
                await asyncio.to_thread(run, *shell)
            else:
                await asyncio.to_thread(self._up.run_in, namespace, *shell)
        if before.controller_dead != after.controller_dead:
            await asyncio.to_thread(self._up.kill_controller if after.controller_dead else self._up.start_controller)


@contextmanager
def every_other_process_stopped() -> Iterator[None]:
    """Stop every process of the sandbox but this one, and let them go on in the end; who was stopped before stays so.

    The first process of a process namespace takes no SIGSTOP from inside it (pid_namespaces(7)), so this one, which is
    that, does nothing instead.
    """
    stopped: set[int] = set()
    while running := {process for process in processes_running() if process != os.getpid()} - stopped:
        for process in running:  # again until none has been started meanwhile
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
        stopped |= running
    try:
        yield
    finally:
        for process in stopped:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def processes_running() -> set[int]:
    """Every process that this one sees, but for those that are stopped or have ended (proc_pid_stat(5))."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (place / "stat").read_text().rpartition(")")[2].split()[0] not in "TtZX":
                found.add(int(place.name))
    return found


def network_commands(up: FabricUp, before: FaultState, after: FaultState) -> Iterator[tuple[int | None, str]]:
    """The shell commands from one state of the links to another, each with the instance in whose namespace it runs
    (None: that of the switches)."""
    for links, way in ((after.cut - before.cut, "down"), (before.cut - after.cut, "up")):
        if names := ports_of(links, up.fabric):
            yield None, " && ".join(f"ip link set {name} {way}" for name in names)
    for index, share in changed_shares(before.shares, after.shares, 1.0).items():
        link = up.fabric.links[index]
        interface, instance = up.shaper_of(link)
        rate_bps = share * link.capacity_bps / up.link_divisor
        shape = Shape(rate_bps, queue=up.spec.queue, burst_s=up.spec.burst_ms / 1e3)
        yield instance, rate_command(interface, shape)
    for index, loss in changed_shares(before.losses, after.losses, 0.0).items():
        interface, instance, arriving = up.lossy_place(up.fabric.links[index])
        command = lossy_command(interface, loss, arriving) if loss else lossless_command(interface, arriving)
        yield instance, command


def ports_of(links: frozenset[int], fabric: Fabric) -> list[str]:
    """The ports of switches at the ends of links. A host's own interface stays up: it loses its carrier."""
    ends = (fabric.links[index] for index in sorted(links))
    return [interface_of(link) for link in ends if link.source in fabric.switch_by_name]


def changed_shares(before: Mapping[int, float], after: Mapping[int, float], whole: float) -> dict[int, float]:
    """The share that each link now has, where it had another. whole: that of a link which is not named."""
    return {
        link: after.get(link, whole)
        for link in sorted(before.keys() | after.keys())
        if after.get(link, whole) != before.get(link, whole)
    }
