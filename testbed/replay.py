"""One run on a fabric that is up: requests issued at their time, decisions taken, everything that happened recorded.

Owns the order of events of a request on the emulated world's clock; what is decided belongs to the scheduler, what
moves to the workers. All times handed to the scheduler and recorded are real-system seconds from the run's start.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from scheduler import (
    Decision,
    Dispatcher,
    OracleError,
    Outcome,
    PolicyError,
    PrefillQueues,
    RejectedError,
    RequestRecord,
)
from scheduler.oracle import NetworkSample, parse_document
from scheduler.record import ENDED_EARLY, POLICY_ERROR
from testbed.background import start_command
from testbed.calibration import CALIBRATION_ID, Calibration
from testbed.errors import TestbedError
from testbed.fabric_up import ORACLE_SOCKET, FabricUp
from testbed.link_log import ORACLE_DEADLINE_S, log_links
from testbed.oracle_client import OracleClient, OracleUnavailableError
from testbed.port_watch import PortWatch
from testbed.pressure import Pressure
from testbed.worker_pool import BACKGROUND_PORT, DECODE_PORT, Event, WorkerPool
from topologies import Roles
from workloads import BackgroundFlow, Request, Scenario

LEAD_S = 0.5
"""From the last worker's hello to the run's zero, wall seconds."""

PROGRESS_S = 0.5

SETTLE_S = 0.2
"""From the last flow's end until the queues of the fabric are empty, wall seconds."""


class Replay:
    """The state of one run. `await Replay(...).run()` returns its Outcome; TestbedError when the run cannot go on."""

    def __init__(
        self,
        up: FabricUp,
        scenario: Scenario,
        roles: Roles,
        requests: list[Request],
        background: tuple[BackgroundFlow, ...],
        say: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._up = up
        self._scenario = scenario
        self._roles = roles
        self._requests = requests
        self._background = background
        self._say = say
        self._dilation = up.spec.time_dilation
        self._gpus = scenario.fabric.gpus_per_instance
        self._dispatcher = Dispatcher(scenario, up.fabric, roles)
        self._queues = PrefillQueues(roles.prefill)
        self._records = {r.request_id: _record(r, scenario.policy) for r in requests}
        self._by_id = {r.request_id: r for r in requests}
        self._decisions: dict[int, Decision] = {}
        self._decision_rows: dict[int, dict[str, Any]] = {}
        self._open = set(self._by_id)
        self._done = asyncio.Event()
        self._zero_s = 0.0
        self._started_s: dict[int, float] = {}
        self._received_s: dict[int, float] = {}
        self._running_flows: set[int] = set()
        self._outcome = Outcome()
        self._refused: list[str] = []
        self._lateness_s: list[float] = []
        self._flow_bytes = 0
        self._pressure = Pressure()
        self._calibration = Calibration(up, roles, scenario.serving.stripes, self._tell)
        self._pool: WorkerPool | None = None

    async def run(self) -> Outcome:
        sources_and_sinks = sorted({end for flow in self._background for end in (flow.source, flow.target)})
        async with WorkerPool(self._up, self._roles, tuple(sources_and_sinks), self._scenario, self._on_event) as pool:
            self._pool = pool
            calibrated = [await self._calibration.measure()]
            ports = PortWatch(self._up.fabric, self._up.link_divisor)
            self._zero_s = time.monotonic() + LEAD_S
            work = (
                *(self._issue(), self._load(), self._watch_oracle(), self._progress()),
                log_links(self._outcome.links, self._real, self._up.spec.rate_scale),
                *(self._pressure.watch(), ports.watch()),
            )
            tasks = [asyncio.create_task(self._guarded(one)) for one in work]
            last_s = self._requests[-1].timestamp_s * self._dilation if self._requests else 0.0
            try:
                await asyncio.wait_for(self._done.wait(), LEAD_S + last_s + self._up.spec.run_deadline_s)
            except TimeoutError:
                for request_id in self._open:
                    self._records[request_id].error = "not finished at the run's deadline"
            finally:
                for task in tasks:
                    task.cancel()
                outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            for problem in outcomes:
                if isinstance(problem, Exception):
                    raise problem
            self._outcome.duration_s = self._now_s()
            await self._stop_background()
            await asyncio.sleep(SETTLE_S)
            self._outcome.evidence |= ports.evidence()
            calibrated.append(await self._calibration.measure())
            self._outcome.evidence["calibration"] = calibrated
        return self._finish()

    async def _guarded(self, work: Any) -> None:
        """A task whose failure ends the run instead of being forgotten."""
        try:
            await work
        except Exception:
            self._done.set()
            raise

    # -- what is asked of the workers -------------------------------------------------------------------------------

    async def _issue(self) -> None:
        if not self._requests:
            self._done.set()
        for request in self._requests:
            await self._until(request.timestamp_s)
            self._lateness_s.append(self._now_s() - request.timestamp_s)
            prefill_s = self._scenario.model.prefill_s(request.input_length, self._gpus)
            prefill_id = self._queues.assign(prefill_s)
            self._records[request.request_id].prefill_id = prefill_id
            command = {"do": "prefill", "request_id": request.request_id, "prefill_s": prefill_s * self._dilation}
            self._tell("prefill", prefill_id, command)

    async def _load(self) -> None:
        """Start and stop the background flows of the plan."""
        edges = sorted(
            [(flow.start_s, 1, flow) for flow in self._background]
            + [(flow.stop_s, 0, flow) for flow in self._background],
            key=lambda edge: (edge[0], edge[1], edge[2].flow_id),
        )
        for at_s, starts, flow in edges:
            await self._until(at_s)
            if starts:
                self._running_flows.add(flow.flow_id)
                address = (self._up.address(flow.target), BACKGROUND_PORT)
                self._tell("background", flow.source, start_command(flow, address, self._up.link_divisor))
            elif flow.flow_id in self._running_flows:
                self._tell("background", flow.source, {"do": "flow_stop", "flow_id": flow.flow_id})

    async def _stop_background(self) -> None:
        for flow in self._background:
            if flow.flow_id in self._running_flows:
                self._tell("background", flow.source, {"do": "flow_stop", "flow_id": flow.flow_id})
        until_s = time.monotonic() + 5
        while self._running_flows and time.monotonic() < until_s:
            await asyncio.sleep(0.01)

    def _tell(self, role: str, instance: int, command: dict[str, Any]) -> None:
        assert self._pool is not None
        self._pool.tell(role, instance, command)

    # -- what the workers report ------------------------------------------------------------------------------------

    def _on_event(self, role: str, instance: int, event: Event) -> None:
        if event.get("request_id", 0) >= CALIBRATION_ID:
            self._calibration.on_event(event)
            return
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is None:
            self._outcome.evidence.setdefault("worker_complaints", []).append(f"{role} on h{instance}: {event}")
        else:
            handler(event)

    def _on_prefill_started(self, event: Event) -> None:
        record = self._records[event["request_id"]]
        record.queue_ms = (self._real(event["at_s"]) - record.timestamp_s) * 1e3

    def _on_prefilled(self, event: Event) -> None:
        request = self._by_id[event["request_id"]]
        if POLICY_ERROR in self._outcome.evidence:
            return
        record = self._records[request.request_id]
        record.prefill_ms = (event["at_s"] - event["started_s"]) / self._dilation * 1e3
        self._queues.done(record.prefill_id, self._scenario.model.prefill_s(request.input_length, self._gpus))
        try:
            decision = self._dispatcher.select(request, record.prefill_id, self._now_s())
        except RejectedError as problem:
            record.status = "rejected"
            self._close(request.request_id, str(problem))
            return
        except PolicyError as problem:
            self._end_early(request.request_id, str(problem))
            return
        record.decided(decision)
        self._decisions[request.request_id] = decision
        self._decision_rows[request.request_id] = asdict(decision)
        self._start_transfer(request, decision)

    def _start_transfer(self, request: Request, decision: Decision) -> None:
        emulated_bytes = round(decision.kv_bytes / self._up.spec.rate_scale)
        moved = {
            "request_id": request.request_id,
            "bytes": emulated_bytes,
            "stripes": self._scenario.serving.stripes,
        }
        tokens = {"context_tokens": request.input_length, "output_tokens": request.output_length}
        self._tell("decode", decision.decode_id, {"do": "expect", **moved, **tokens})
        if emulated_bytes:
            address = [self._up.address(decision.decode_id), DECODE_PORT]
            bound = {"address": address, "deadline_s": self._up.spec.run_deadline_s}
            self._tell("prefill", decision.prefill_id, {"do": "transfer", **moved, **bound})
        else:
            self._started_s[request.request_id] = time.monotonic()

    def _on_transferred(self, event: Event) -> None:
        request_id = event["request_id"]
        self._started_s[request_id] = event["started_s"]
        self._decision_rows[request_id]["source_ports"] = event["source_ports"]
        self._decision_rows[request_id]["wire_bytes"] = event["wire_bytes"]
        self._note_transfer(request_id)

    def _on_received(self, event: Event) -> None:
        request_id = event["request_id"]
        self._received_s[request_id] = event["at_s"]
        self._dispatcher.transferred(request_id, self._real(event["at_s"]))
        self._note_transfer(request_id)

    def _note_transfer(self, request_id: int) -> None:
        """Both ends have spoken: from the sender's first connection to the receiver's last byte."""
        if request_id in self._started_s and request_id in self._received_s:
            taken_s = max(self._received_s[request_id] - self._started_s[request_id], 0.0)
            self._records[request_id].kv_transfer_ms = taken_s / self._dilation * 1e3
            self._decision_rows[request_id]["transfer_started_s"] = self._real(self._started_s[request_id])

    def _on_admitted(self, event: Event) -> None:
        request_id = event["request_id"]
        self._dispatcher.admitted(request_id)
        waited_s = event["at_s"] - self._received_s[request_id]
        self._records[request_id].admission_ms = waited_s / self._dilation * 1e3

    def _on_first_token(self, event: Event) -> None:
        record = self._records[event["request_id"]]
        record.ttft_ms = (self._real(event["at_s"]) - record.timestamp_s) * 1e3

    def _on_finished(self, event: Event) -> None:
        request_id = event["request_id"]
        token_s = [self._real(at_s) for at_s in event["token_s"]]
        self._records[request_id].emitted(token_s[0], token_s[-1])
        self._outcome.token_gaps_ms.extend((b - a) * 1e3 for a, b in pairwise(token_s))
        self._outcome.token_gap_counts.extend([1] * (len(token_s) - 1))
        self._dispatcher.finished(request_id)
        self._close(request_id)

    def _on_transfer_failed(self, event: Event) -> None:
        self._give_up(event["request_id"], event["error"])

    def _on_rejected(self, event: Event) -> None:
        self._records[event["request_id"]].status = "rejected"
        self._give_up(event["request_id"], event["error"])

    def _give_up(self, request_id: int, error: str) -> None:
        if request_id in self._open:
            self._tell("decode", self._decisions[request_id].decode_id, {"do": "cancel", "request_id": request_id})
            self._dispatcher.failed(request_id)
            self._close(request_id, error)

    def _on_cancelled(self, event: Event) -> None:
        """Expected after `_give_up`."""

    def _on_flow_stopped(self, event: Event) -> None:
        self._running_flows.discard(event["flow_id"])
        self._flow_bytes += event["bytes"]
        self._outcome.background.append(self._background_row(event))

    def _background_row(self, event: Event) -> dict[str, Any]:
        flow = next(flow for flow in self._background if flow.flow_id == event["flow_id"])
        return {
            **{"flow_id": flow.flow_id, "source": flow.source, "target": flow.target},
            **{"rate_bps": flow.rate_bps, "protocol": flow.protocol},
            **{"started_s": self._real(event["started_s"]), "ended_s": self._real(event["at_s"])},
            **{"bytes": event["bytes"] * self._up.spec.rate_scale, "source_ports": event["source_ports"]},
        }

    def _on_flow_failed(self, event: Event) -> None:
        self._running_flows.discard(event["flow_id"])
        self._outcome.evidence.setdefault("background_failures", []).append(event["error"])

    def _close(self, request_id: int, error: str = "") -> None:
        self._records[request_id].error = error
        self._open.discard(request_id)
        if not self._open:
            self._done.set()

    def _end_early(self, request_id: int, error: str) -> None:
        """The policy broke its contract: nobody is asked again, and the record keeps what has happened so far."""
        self._outcome.evidence[POLICY_ERROR] = error
        for open_id in sorted(self._open):
            self._close(open_id, error if open_id == request_id else ENDED_EARLY)

    # -- what the controller reports --------------------------------------------------------------------------------

    async def _watch_oracle(self) -> None:
        """Offer the scheduler a new sample every `refresh_s`; a refused or missing one leaves the old one to age."""
        if self._scenario.oracle.source == "static":
            return
        names = [link.name for link in self._up.fabric.links]
        client = OracleClient(ORACLE_SOCKET)
        while True:
            now_s = self._now_s()
            refused = ""
            try:
                document = await asyncio.to_thread(client.fetch, ORACLE_DEADLINE_S)
                on_wire = parse_document(document, names)
                sample = NetworkSample(self._real(on_wire.sampled_s), on_wire.utilisation)
            except (OracleUnavailableError, OracleError) as problem:
                refused = str(problem)
                self._refused.append(refused)
                sample = None
            self._dispatcher.offer_sample(sample, now_s, refused)
            next_s = self._dispatcher.oracle.next_due_s()
            if math.isinf(next_s):
                return
            await self._until(next_s)

    async def _progress(self) -> None:
        assert self._pool is not None
        while True:
            self._say(len(self._records) - len(self._open))
            if complaint := self._pool.dead():
                raise TestbedError(complaint)
            await asyncio.sleep(PROGRESS_S)

    # -- time -------------------------------------------------------------------------------------------------------

    def _real(self, monotonic_s: float) -> float:
        return (monotonic_s - self._zero_s) / self._dilation

    def _now_s(self) -> float:
        return self._real(time.monotonic())

    async def _until(self, real_s: float) -> None:
        await asyncio.sleep(max(self._zero_s + real_s * self._dilation - time.monotonic(), 0))

    def _finish(self) -> Outcome:
        outcome = self._outcome
        outcome.requests = list(self._records.values())
        outcome.decisions = list(self._decision_rows.values())
        lateness_ms = sorted(late * 1e3 for late in self._lateness_s)
        outcome.evidence |= self._pressure.evidence() | {
            "datapath": self._up.datapath,
            "arrival_lateness_p99_ms": lateness_ms[int(0.99 * (len(lateness_ms) - 1))] if lateness_ms else 0.0,
            "oracle_refusals": self._refused,
            "background_bytes": self._flow_bytes,
            "rate_scale": self._up.spec.rate_scale,
            "background_udp": any(flow.protocol == "udp" for flow in self._background),
            "kv_wire_bytes": sum(row.get("wire_bytes", 0) for row in outcome.decisions),
        }
        return outcome


def _record(request: Request, policy: str) -> RequestRecord:
    return RequestRecord(
        request_id=request.request_id,
        timestamp_s=request.timestamp_s,
        input_length=request.input_length,
        output_length=request.output_length,
        policy=policy,
    )
