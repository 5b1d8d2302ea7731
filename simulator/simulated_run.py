"""One run in the analytic world: the same order of events as in `testbed.emulated_run`, on a clock of its own.

arrival -> prefill queue -> prefill -> selection -> transfer -> decode admission -> first token -> last token. What is
decided belongs to the scheduler, what moves to the transport, who is in a batch to `decode_batch`. Events of one
instant happen in the order of `agenda.Kind`; a transfer that ends at that instant has ended before all of them.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from scenario import BackgroundFlow, Scenario
from scheduler import Decision, Dispatcher, PolicyError, RejectedError
from serving import ENDED_EARLY, POLICY_ERROR, Outcome, PrefillQueues, RequestRecord
from simulator.decode_batch import Admitted, DecodeBatch, Event
from simulator.errors import SimulationError
from simulator.event_queue import Agenda, Kind
from simulator.observers import Observers
from simulator.simulation import SimulationSpec
from simulator.transport import Transport
from topologies import Fabric, Roles
from workloads import Request

PROGRESS_PARTS = 100
"""How often progress is told, in parts of the requests."""

_DECISION_FIELDS = tuple(item.name for item in fields(Decision))


class Replay:
    """The state of one run. `Replay(...).run()` returns its Outcome; SimulationError when it makes no progress.

    `stopwatch` (ns) times decisions. What it reads goes to `decisions_us` and nowhere else: every record says NaN, so
    that the same run gives the same records.
    """

    def __init__(
        self,
        scenario: Scenario,
        simulation: SimulationSpec,
        fabric: Fabric,
        roles: Roles,
        requests: list[Request],
        background: tuple[BackgroundFlow, ...],
        transport: Transport,
        say: Callable[[int], None] = lambda _: None,
        stopwatch: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._scenario = scenario
        self._fabric = fabric
        self._roles = roles
        self._background = background
        self._transport = transport
        self._say = say
        self._requests = {request.request_id: request for request in requests}
        self._records = {request.request_id: RequestRecord.of(request, scenario.policy) for request in requests}
        self._decisions: dict[int, Decision] = {}
        self._received_s: dict[int, float] = {}
        self._closed = 0
        self._policy_error = ""
        self._now_s = 0.0
        self._agenda = Agenda()
        self._dispatcher = Dispatcher(scenario, fabric, roles, stopwatch=stopwatch)
        last_s = requests[-1].timestamp_s if requests else 0.0
        self._observers = Observers(scenario, simulation, fabric, transport, self._dispatcher, self._agenda, last_s)
        self._queues = PrefillQueues(roles.prefill)
        self._queued: dict[int, deque[int]] = {prefill_id: deque() for prefill_id in roles.prefill}
        self._prefilling: dict[int, int] = {}
        serving = scenario.serving
        self._gaps = [0] * (serving.batch_slots + 1)
        self._batches = {
            decode_id: DecodeBatch(scenario.model.step_s, serving.batch_slots, serving.kv_memory_tokens, self._gaps)
            for decode_id in roles.decode
        }
        self._booked_s = dict.fromkeys(roles.decode, math.inf)
        self._running_flows: set[int] = set()
        self.decisions_us: list[float] = []
        self.events = 0
        self._flows_seen = 0

    def run(self) -> Outcome:
        for request in self._requests.values():
            self._agenda.book(request.timestamp_s, Kind.ARRIVAL, request.request_id)
        for flow in self._background:
            self._agenda.book(flow.start_s, Kind.BACKGROUND_START, flow.flow_id)
            self._agenda.book(flow.stop_s, Kind.BACKGROUND_STOP, flow.flow_id)
        self._observers.book_first()
        while self._closed < len(self._requests) and not self._policy_error:
            self._next_event()
        return self._finish()

    def _next_event(self) -> None:
        agenda, transport = self._agenda, self._transport
        delivery_s = transport.next_delivery_s()
        self.events += 1
        if delivery_s <= agenda.next_s:
            if delivery_s == math.inf:
                raise SimulationError(f"no progress: {self._state()}")
            self._now_s = delivery_s
            for request_id, at_s in transport.advance(delivery_s):
                latency_s = self._fabric.spec.tier_latency_s(self._decisions[request_id].tier)
                agenda.book(at_s + latency_s, Kind.RECEIVED, request_id)
            return
        if agenda.only_observers and delivery_s == math.inf:
            raise SimulationError(f"no progress: {self._state()}")
        self._now_s, kind, subject = agenda.take()
        match kind:
            case Kind.STEP_END:
                self._apply(subject, self._batches[subject].advance(self._now_s))
            case Kind.RECEIVED:
                self._receive(subject)
            case Kind.BACKGROUND_STOP:
                transport.advance(self._now_s)
                self._stop_background(subject)
            case Kind.BACKGROUND_START:
                transport.advance(self._now_s)
                transport.start_background(self._background[subject])
                self._running_flows.add(subject)
            case Kind.POLL:
                transport.advance(self._now_s)
                self._observers.poll(subject)
            case Kind.LINK_ROWS:
                self._observers.write_rows(self._now_s)
            case Kind.REFRESH:
                transport.advance(self._now_s)
                self._observers.refresh(self._now_s)
            case Kind.PREFILLED:
                self._end_prefill(subject)
            case Kind.ARRIVAL:
                self._arrive(self._requests[subject])

    # -- the life of a request --------------------------------------------------------------------------------------

    def _arrive(self, request: Request) -> None:
        record = self._records[request.request_id]
        record.prefill_id = self._queues.assign(self._prefill_s(request))
        self._queued[record.prefill_id].append(request.request_id)
        if record.prefill_id not in self._prefilling:
            self._start_prefill(record.prefill_id)

    def _start_prefill(self, prefill_id: int) -> None:
        request_id = self._prefilling[prefill_id] = self._queued[prefill_id].popleft()
        record = self._records[request_id]
        record.queue_ms = (self._now_s - record.timestamp_s) * 1e3
        prefill_s = self._prefill_s(self._requests[request_id])
        record.prefill_ms = prefill_s * 1e3
        self._agenda.book(self._now_s + prefill_s, Kind.PREFILLED, prefill_id)

    def _end_prefill(self, prefill_id: int) -> None:
        request = self._requests[self._prefilling.pop(prefill_id)]
        self._queues.done(prefill_id, self._prefill_s(request))
        if self._queued[prefill_id]:
            self._start_prefill(prefill_id)
        try:
            decision = self._dispatcher.select(request, prefill_id, self._now_s)
        except RejectedError as problem:
            record = self._records[request.request_id]
            record.status, record.error = "rejected", str(problem)
            self._close()
            return
        except PolicyError as problem:
            self._policy_error = self._records[request.request_id].error = str(problem)
            return
        self.decisions_us.append(decision.decision_us)
        self._decisions[request.request_id] = decision
        record = self._records[request.request_id]
        record.decided(decision)
        record.decision_us = math.nan
        if not decision.kv_bytes:
            self._receive(request.request_id)
            return
        self._transport.advance(self._now_s)
        self._transport.start_transfer(
            request.request_id, prefill_id, decision.decode_id, decision.kv_bytes, self._scenario.serving.stripes
        )
        self._flows_seen += self._transport.flows

    def _receive(self, request_id: int) -> None:
        """The last byte is in: the request queues for the batch."""
        request, decision = self._requests[request_id], self._decisions[request_id]
        self._received_s[request_id] = self._now_s
        self._records[request_id].kv_transfer_ms = (self._now_s - decision.decided_s) * 1e3
        self._dispatcher.transferred(request_id, self._now_s)
        batch = self._batches[decision.decode_id]
        self._apply(
            decision.decode_id, batch.offer(request_id, request.input_length, request.output_length, self._now_s)
        )

    def _apply(self, decode_id: int, happened: list[Event]) -> None:
        """Record what a batch did, and come back when it changes next."""
        for event in happened:
            record = self._records[event.request_id]
            if isinstance(event, Admitted):
                self._dispatcher.admitted(event.request_id)
                record.admission_ms = (event.at_s - self._received_s.pop(event.request_id)) * 1e3
            else:
                record.emitted(event.first_token_s, event.at_s)
                self._dispatcher.finished(event.request_id)
                self._close()
        next_s = self._batches[decode_id].next_s
        if next_s != self._booked_s[decode_id] and next_s < math.inf:
            self._agenda.book(next_s, Kind.STEP_END, decode_id)
        self._booked_s[decode_id] = next_s

    def _close(self) -> None:
        self._closed += 1
        if self._closed % max(len(self._requests) // PROGRESS_PARTS, 1) == 0:
            self._say(self._closed)

    def _prefill_s(self, request: Request) -> float:
        return self._scenario.model.prefill_s(request.input_length, self._scenario.fabric.gpus_per_instance)

    # -- the end ----------------------------------------------------------------------------------------------------

    def _stop_background(self, flow_id: int) -> None:
        self._transport.stop_background(self._background[flow_id])
        self._running_flows.remove(flow_id)

    def _finish(self) -> Outcome:
        self._transport.advance(self._now_s)
        for flow_id in sorted(self._running_flows):
            self._stop_background(flow_id)
        if self._policy_error:
            for record in self._records.values():
                if record.status == "failed" and not record.error:
                    record.error = ENDED_EARLY
        outcome = Outcome(duration_s=self._now_s, requests=list(self._records.values()), links=self._observers.rows)
        outcome.decisions = [
            _row(decision) | {"decision_us": math.nan, "transfer_started_s": decision.decided_s}
            for decision in self._decisions.values()
        ]
        for running, count in enumerate(self._gaps):
            if count:
                outcome.token_gaps_ms.append(self._scenario.model.step_s(running) * 1e3)
                outcome.token_gap_counts.append(count)
        transfers = sum(decision.kv_bytes > 0 for decision in self._decisions.values())
        outcome.evidence |= {
            "kv_bytes": sum(decision.kv_bytes for decision in self._decisions.values()),
            "background_bytes": round(self._transport.background_B),
            "link_sample_s": self._observers.link_sample_s,
            "events": self.events,
            "mean_flows": self._flows_seen / transfers if transfers else 0.0,
        }
        if self._policy_error:
            outcome.evidence[POLICY_ERROR] = self._policy_error
        return outcome

    def _state(self) -> str:
        decided, received = len(self._decisions), len(self._received_s)
        moving = decided - sum(record.kv_transfer_ms >= 0 for record in self._records.values())
        return (
            f"{len(self._requests) - self._closed} of {len(self._requests)} requests open at {self._now_s:g} s: "
            f"{sum(map(len, self._queued.values()))} queued, {len(self._prefilling)} in prefill, {moving} in transfer, "
            f"{received} waiting for a batch, {sum(batch.running for batch in self._batches.values())} decoding"
        )


def _row(decision: Decision) -> dict[str, Any]:
    return {name: getattr(decision, name) for name in _DECISION_FIELDS}
