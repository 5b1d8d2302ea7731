"""One run on a fabric that is up: its parts put together, started, watched to the end, and summed up in an Outcome.

A request's life is the lifecycle's (`serving`), what moves it `request_movers`', background traffic
`background_player`'s, faults are `fault_player`'s, the scheduler's telemetry snapshots `oracle_watch`'s; here is what
they share: workers, clock, deadline and evidence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from scenario import BackgroundFlow, Role, Scenario
from scheduler import Policy, PrefixIndex
from serving import POLICY_ERROR, RETRIED, UNREPEATABLE, Outcome, Watch
from testbed.background_player import BackgroundPlayer
from testbed.calibration import CALIBRATION_ID, Calibration
from testbed.cpu_monitor import CpuMonitor
from testbed.fabric_up import ORACLE_SOCKET, FabricUp
from testbed.fault_player import FaultPlayer
from testbed.forwarding_watch import watch_forwarding
from testbed.frozen_heap import frozen_heap
from testbed.link_log import LinkLog
from testbed.oracle_client import OracleClient
from testbed.oracle_watch import OracleWatch
from testbed.port_watch import PortWatch
from testbed.request_movers import LATE_S, RequestMovers
from testbed.run_clock import RunClock
from testbed.run_watch import show_run
from testbed.scheduling_priority import REALTIME_PRIORITY, realtime_thread
from testbed.worker_pool import Event, WorkerPool
from topologies import Roles
from workloads import Request

PROGRESS_S = 0.5
SERVING: dict[str, Role] = {"prefill": "prefill", "decode": "decode"}
"""The workers that hold requests."""


class EmulatedRun:
    """The state of one run. `await EmulatedRun(...).run()` returns its Outcome; TestbedError when it cannot go on.

    say: told every `PROGRESS_S` how many requests are closed, and by faults; over: called when nothing is replayed any
    more and summing up begins, which takes long after a long run.
    """

    def __init__(
        self,
        up: FabricUp,
        scenario: Scenario,
        roles: Roles,
        requests: list[Request],
        background: tuple[BackgroundFlow, ...],
        say: Callable[[int], None] = lambda _: None,
        policy: Policy | None = None,
        prefixes: PrefixIndex | None = None,
        watch: Watch | None = None,
        over: Callable[[], object] = lambda: None,
    ) -> None:
        self._up = up
        self._over = over
        self._scenario = scenario
        self._last_arrival_s = requests[-1].timestamp_s if requests else 0.0
        self._say = say
        self._watch = watch
        self._clock = RunClock(up.spec.time_dilation)
        self._movers = RequestMovers(up, scenario, roles, requests, self._clock, self._tell, policy, prefixes)
        self._background = BackgroundPlayer(up, background, self._clock, self._tell)
        self._oracle_clients = OracleClient(ORACLE_SOCKET), OracleClient(ORACLE_SOCKET)
        scheduler, logger = self._oracle_clients
        dispatcher = self._movers.life.dispatcher
        self._oracle = OracleWatch(scheduler, dispatcher, up.fabric, self._clock, scenario.first_snapshot_s)
        self._calibration = Calibration(up, roles, scenario.serving.stripes, self._tell)
        self._links = LinkLog(logger, self._clock.real_s, up.spec.rate_scale)
        self._cpu_monitor = CpuMonitor(up, roles.decode[0])
        self._udp = any(flow.protocol == "udp" for flow in background)
        self._handlers = self._movers.handlers | self._background.handlers
        self._complaints: list[str] = []
        self._deaths: list[str] = []
        self._faults = FaultPlayer(
            up, scenario.fault_plan(up.fabric, roles, self._last_arrival_s), self._clock, self._movers.life, say
        )
        self._pool = WorkerPool(
            up, roles, self._background.instances, scenario, self._on_event, self._on_lost, self._on_restarted
        )
        self._outcome = Outcome()

    async def run(self) -> Outcome:
        async with self._pool:
            calibrated = [await self._calibration.measure()]
            self._outcome.evidence |= await self._calibration.idle()
            up, apart = self._up, self._up.spec.queue == "fair"
            ports = PortWatch(
                up.fabric, up.link_divisor, up.spec.burst_ms / 1e3, up.split, acknowledgements_apart=apart
            )
            for client in self._oracle_clients:
                client.connect()
            with frozen_heap(), realtime_thread(REALTIME_PRIORITY):
                self._clock.start(self._scenario.lead_s)
                await self._play(ports)
                self._outcome.duration_s = self._clock.now_s()
            self._over()
            await self._faults.restore(self._pool)
            await self._background.stop()
            await ports.until_still()
            self._outcome.evidence |= ports.evidence() | {"telemetry_error": self._links.against(ports)}
            calibrated.append(await self._calibration.measure())
            self._outcome.evidence["calibration"] = calibrated
        return self._finish()

    async def _play(self, ports: PortWatch) -> None:
        """Everything that goes on side by side, until no request is open or the deadline has passed."""
        work = [
            self._movers.issue(),
            self._background.play(),
            self._faults.play(self._pool),
            self._cpu_monitor.watch(self._clock.until(0.0)),
            ports.watch(),
            self._links.watch(),
            watch_forwarding(),
            self._progress(),
        ]
        if self._scenario.oracle.source != "static":
            work.append(self._oracle.watch())
        if self._watch is not None:
            work.append(show_run(self._watch, self._movers.life, self._clock, lambda: self._links.latest))
        tasks = [asyncio.create_task(self._guarded(one)) for one in work]
        span_s = (self._scenario.lead_s + self._last_arrival_s) * self._clock.dilation
        try:
            await asyncio.wait_for(self._movers.done.wait(), span_s + self._up.spec.deadline_s)
        except TimeoutError:
            self._movers.life.give_up("not finished at the run's deadline")
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for problem in ended:
            if isinstance(problem, Exception):
                raise problem

    async def _guarded(self, work: Awaitable[None]) -> None:
        """A task whose failure ends the run instead of being forgotten."""
        try:
            await work
        except Exception:
            self._movers.done.set()
            raise

    async def _progress(self) -> None:
        while True:
            self._say(self._movers.life.closed)
            await asyncio.sleep(PROGRESS_S)

    def _tell(self, role: str, instance: int, command: dict[str, Any]) -> None:
        self._pool.tell(role, instance, command)

    def _on_event(self, role: str, instance: int, event: Event) -> None:
        if event.get("request_id", 0) >= CALIBRATION_ID:
            self._calibration.on_event(event)
        elif handler := self._handlers.get(event["event"]):
            handler(event)
        else:
            self._complaints.append(f"{role} on h{instance}: {event}")

    def _on_lost(self, role: str, instance: int, line: str) -> None:
        """A worker has ended that no fault has killed: what it held is lost, and the run goes on."""
        self._deaths.append(line)
        if role in SERVING:
            self._movers.life.lost(SERVING[role], instance, line, self._clock.now_s())

    def _on_restarted(self, role: str, instance: int) -> None:
        if role in SERVING:
            self._movers.life.restored(SERVING[role], instance)

    def _finish(self) -> Outcome:
        outcome, movers = self._outcome, self._movers
        outcome.requests = list(movers.life.records.values())
        closed = list(movers.closed)
        decisions = [one.decision for one in closed if one.decision is not None]
        outcome.decisions = sorted(decisions, key=lambda row: (row["decided_s"], row["request_id"]))
        outcome.background = self._background.rows
        outcome.links = self._links.rows()
        outcome.faults = self._faults.record.rows(outcome)
        outcome.snapshots = self._oracle.rows()
        outcome.request_gaps_ms = {one.request_id: [*one.gaps_ms] for one in closed if one.gaps_ms is not None}
        outcome.token_gaps_ms = [gap_ms for gaps_ms in outcome.request_gaps_ms.values() for gap_ms in gaps_ms]
        outcome.token_gap_counts = [1] * len(outcome.token_gaps_ms)
        lateness_ms = sorted(late * 1e3 for late in movers.lateness_s)
        outcome.evidence |= self._cpu_monitor.evidence() | {
            "datapath": self._up.datapath,
            "late_requests": sum(late_s > LATE_S for late_s in movers.lateness_s),
            "arrival_lateness_p99_ms": lateness_ms[int(0.99 * (len(lateness_ms) - 1))] if lateness_ms else 0.0,
            "oracle_refusals": self._oracle.refused,
            "paced_background": self._background.paced_share,
            "background_bytes": self._background.emulated_bytes,
            "rate_scale": self._up.spec.rate_scale,
            "background_udp": self._udp,
            "kv_wire_bytes": sum(row.get("wire_bytes", 0) for row in outcome.decisions),
            "retransmitted": sum(
                [sum(row.get("retransmitted", ())) for row in outcome.decisions]
                + [sum(row["retransmitted"]) for row in outcome.background]
            ),
        }
        for key, found in (
            (POLICY_ERROR, movers.life.policy_error),
            (RETRIED, movers.life.retries.retried),
            (UNREPEATABLE, movers.life.dispatcher.unrepeatable),
            ("worker_complaints", self._complaints),
            ("background_failures", self._background.failures),
            ("worker_deaths", self._deaths),
        ):
            if found:
                outcome.evidence[key] = found
        return outcome
