"""One run in the analytic world: the movers of `serving.Lifecycle` on a simulated clock.

What is decided belongs to the scheduler, the order of a request's steps to the lifecycle, what moves to the transport,
who is in a batch to `decode_batch`. Events of one instant happen in the order of `event_queue.Kind`; a transfer that
ends at that instant has ended before all of them.
"""

from __future__ import annotations

import functools
import math
import time
from collections import deque
from collections.abc import Callable

from scenario import DETECTION_S, BackgroundFlow, Role, Scenario, fault_edges
from scheduler import Decision, Policy, PrefixIndex
from serving import POLICY_ERROR, RETRIED, UNREPEATABLE, Attempts, FaultRecord, Lifecycle, Outcome, Watch
from simulator.decode_batch import BatchEvent, DecodeBatch, Joined, Left
from simulator.errors import StuckError
from simulator.event_queue import EventQueue, Kind
from simulator.faulty_transport import FaultyTransport
from simulator.observers import Observers, Onlooker
from simulator.simulation import SimulationSpec
from simulator.transport import Transport
from topologies import Fabric, Roles
from workloads import Request

PROGRESS_PARTS = 100
"""Number of progress reports in a run."""

NO_PATH = "no path was left between its instances"
"""The error of a transfer that waits for a link that never comes back."""


class SimulatedRun:
    """The state of one run. `SimulatedRun(...).run()` returns its Outcome; StuckError when it makes no progress.

    `stopwatch` (ns) times decisions. Its readings go to `decisions_us` and nowhere else: every record has NaN, so that
    the same run gives the same records.
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
        policy: Policy | None = None,
        prefixes: PrefixIndex | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._scenario = scenario
        self._latency_s = [fabric.spec.tier_latency_s(tier) for tier in range(4)]
        self._background = background
        self._transport = transport
        self._say = say
        self._requests = {request.request_id: request for request in requests}
        self._report_every = max(len(requests) // PROGRESS_PARTS, 1)
        self._now_s = -scenario.lead_s
        self._event_queue = EventQueue()
        self._life = Lifecycle(
            scenario,
            fabric,
            roles,
            requests,
            self,
            on_closed=self._report_progress,
            stopwatch=stopwatch,
            policy=policy,
            prefixes=prefixes,
        )
        last_s = requests[-1].timestamp_s if requests else 0.0
        self._observers = Observers(
            scenario, simulation, fabric, transport, self._life.dispatcher, self._event_queue, last_s
        )
        self._onlooker = None if watch is None else Onlooker(watch, fabric, transport, self._life, -scenario.lead_s)
        self._queued: dict[int, deque[tuple[int, float]]] = {prefill_id: deque() for prefill_id in roles.prefill}
        self._prefilling: dict[int, tuple[int, float]] = {}
        self._prefill_ends_s: dict[int, float] = {}
        self._prefill_busy: set[int] = set()
        serving = scenario.serving
        self._gaps = [0] * (serving.batch_slots + 1)
        self._step_s = functools.cache(scenario.model.step_s)
        self._batches = {decode_id: self._new_batch() for decode_id in roles.decode}
        self._booked_s = dict.fromkeys(roles.decode, math.inf)
        self._moving: dict[int, Decision] = {}
        self._attempts = Attempts()
        self._edges = fault_edges(scenario.fault_plan(fabric, roles, last_s))
        self._faults = FaultRecord(fabric, self._life)
        self._faulty = transport if isinstance(transport, FaultyTransport) else None
        self._running_flows: set[int] = set()
        self._arrivals = iter(self._life.turns.opening)
        self._handlers: dict[int, Callable[[int], None]] = {
            Kind.STEP_END: self._end_step,
            Kind.RECEIVED: self._end_latency,
            Kind.FAULT: self._change,
            Kind.REROUTE: self._reroute,
            Kind.BACKGROUND_STOP: self._stop_flow,
            Kind.BACKGROUND_START: self._start_flow,
            Kind.POLL: self._poll,
            Kind.LINK_ROWS: self._write_rows,
            Kind.REFRESH: self._refresh,
            Kind.PREFILLED: self._end_attempts_prefill,
            Kind.ARRIVAL: self._arrive,
            Kind.OVERDUE: self._look_overdue,
        }
        self.decisions_us: list[float] = []
        self.events = 0
        self._flows_seen = 0

    @property
    def prefixes(self) -> PrefixIndex:
        """What the decode instances hold by now."""
        return self._life.dispatcher.prefixes

    def run(self) -> Outcome:
        self._await_arrival()
        for flow in self._background:
            self._event_queue.book(flow.start_s, Kind.BACKGROUND_START, flow.flow_id)
            self._event_queue.book(flow.stop_s, Kind.BACKGROUND_STOP, flow.flow_id)
        for number, edge in enumerate(self._edges):
            self._event_queue.book(edge.at_s, Kind.FAULT, number)
        self._observers.book_first()
        life, next_event = self._life, self._next_event
        while not life.done:
            next_event()
        return self._finish()

    def _next_event(self) -> None:
        transport = self._transport
        delivery_s = transport.next_delivery_s()
        if self._onlooker is not None:
            self._onlooker.look_before(min(delivery_s, self._event_queue.next_s))
        self.events += 1
        if delivery_s == math.inf and self._event_queue.only_observers:
            if self._give_up_stalled():
                return
            raise StuckError(f"no progress: {self._state()}")
        event = self._event_queue.take(delivery_s)
        if event is not None:
            self._now_s, kind, subject = event
            self._handlers[kind](subject)
            return
        self._now_s = delivery_s
        for request_id, at_s in transport.advance(delivery_s):
            latency_s = self._latency_s[self._moving[request_id].tier]
            self._event_queue.book(at_s + latency_s, Kind.RECEIVED, self._attempts.number(request_id))

    # -- events -----------------------------------------------------------------------------------------------------

    def _await_arrival(self) -> None:
        """Book the next arrival by itself: they come in order of time, and one at a time keeps the queue short."""
        if (request := next(self._arrivals, None)) is not None:
            self._event_queue.book(request.timestamp_s, Kind.ARRIVAL, request.request_id)

    def _arrive(self, request_id: int) -> None:
        request = self._requests[request_id]
        if request.delay_s is None:
            self._await_arrival()
        self._life.arrive(request)

    def _end_step(self, decode_id: int) -> None:
        self._apply(decode_id, self._batches[decode_id].advance(self._now_s))

    def _end_latency(self, attempt: int) -> None:
        if (request_id := self._attempts.request_of(attempt)) is not None:
            self._receive(request_id)

    def _end_attempts_prefill(self, attempt: int) -> None:
        if (request_id := self._attempts.request_of(attempt)) is not None:
            self._end_prefill(request_id)

    def _start_flow(self, flow_id: int) -> None:
        self._transport.advance(self._now_s)
        self._transport.start_background(self._background[flow_id])
        self._running_flows.add(flow_id)

    def _stop_flow(self, flow_id: int) -> None:
        self._transport.advance(self._now_s)
        self._stop_background(flow_id)

    def _poll(self, number: int) -> None:
        self._transport.advance(self._now_s)
        self._observers.poll(number)

    def _write_rows(self, _: int) -> None:
        self._observers.write_rows(self._now_s)

    def _refresh(self, _: int) -> None:
        self._transport.advance(self._now_s)
        self._observers.refresh(self._now_s)

    def _look_overdue(self, request_id: int) -> None:
        self._transport.advance(self._now_s)
        self._life.overdue(request_id, self._now_s)

    # -- the movers -------------------------------------------------------------------------------------------------

    def arrive_later(self, request: Request) -> None:
        self._requests[request.request_id] = request
        self._event_queue.book(request.timestamp_s, Kind.ARRIVAL, request.request_id)

    def prefill(self, request: Request, prefill_id: int, prefill_s: float) -> None:
        if self._scenario.serving.prefill == "queue" and prefill_id in self._prefill_busy:
            self._queued[prefill_id].append((request.request_id, prefill_s))
        else:
            self._start_prefill(request.request_id, prefill_id, prefill_s)

    def transfer(self, request: Request, decision: Decision) -> None:
        request_id = request.request_id
        self._moving[request_id] = decision
        self._life.sending(request_id, self._now_s)
        if not decision.kv_bytes:
            self._receive(request_id)
            return
        self._transport.advance(self._now_s)
        serving, ends = self._scenario.serving, (decision.prefill_id, decision.decode_id)
        most_Bps = math.inf
        if (prefill_ends_s := self._prefill_ends_s.get(request_id, -math.inf)) > self._now_s:
            most_Bps = serving.overlap * decision.kv_bytes / (prefill_ends_s - self._now_s)
        self._transport.start_transfer(request_id, *ends, decision.kv_bytes, serving.stripes, most_Bps)
        if self._faulty is not None and (self._faults.state.cut or self._faults.state.shares):
            self._faults.note_use(self._faulty.home_links())
        self._flows_seen += self._transport.flows

    def wake(self, request_id: int, at_s: float) -> None:
        self._event_queue.book(at_s, Kind.OVERDUE, request_id)

    def abandon(self, request_id: int, decode_id: int | None) -> None:
        assert decode_id is not None, "a prefill of the model is never late"
        self._attempts.end(request_id)
        if self._moving.pop(request_id, None) is not None and self._faulty is not None:
            self._faulty.cancel(request_id)
        self._apply(decode_id, self._batches[decode_id].withdraw(request_id, self._now_s))

    def _start_prefill(self, request_id: int, prefill_id: int, prefill_s: float) -> None:
        self._prefilling[request_id] = prefill_id, prefill_s
        self._prefill_busy.add(prefill_id)
        self._prefill_ends_s[request_id] = self._now_s + prefill_s
        self._event_queue.book(self._now_s + prefill_s, Kind.PREFILLED, self._attempts.number(request_id))
        self._life.prefill_started(request_id, self._now_s)

    def _end_prefill(self, request_id: int) -> None:
        prefill_id, prefill_s = self._prefilling.pop(request_id)
        del self._prefill_ends_s[request_id]
        self._prefill_busy.discard(prefill_id)
        if self._queued[prefill_id]:
            next_id, next_s = self._queued[prefill_id].popleft()
            self._start_prefill(next_id, prefill_id, next_s)
        if request_id in self._moving:
            self._transport.advance(self._now_s)
            self._transport.uncap(request_id)
        self._life.prefilled(request_id, prefill_s, self._now_s)

    def _receive(self, request_id: int) -> None:
        """The last byte is in: the request queues for the batch."""
        request, decode_id = self._requests[request_id], self._moving.pop(request_id).decode_id
        self._life.received(request_id, self._now_s)
        size, marks = (request.input_length, request.output_length), self._life.dispatcher.token_marks(request)
        self._apply(decode_id, self._batches[decode_id].offer(request_id, *size, self._now_s, marks))

    def _apply(self, decode_id: int, happened: list[BatchEvent]) -> None:
        """Report what a batch did, and come back when it changes next."""
        for event in happened:
            if isinstance(event, Joined):
                self._life.admitted(event.request_id, event.at_s)
            elif not isinstance(event, Left):
                self._life.token_block(event.request_id)
            else:
                self._life.finished(event.request_id, event.first_token_s, event.at_s)
        next_s = self._batches[decode_id].next_s
        if next_s != self._booked_s[decode_id] and next_s < math.inf:
            self._event_queue.book(next_s, Kind.STEP_END, decode_id)
        self._booked_s[decode_id] = next_s

    def _new_batch(self) -> DecodeBatch:
        serving = self._scenario.serving
        return DecodeBatch(self._step_s, serving.batch_slots, serving.kv_memory_tokens, self._gaps)

    # -- faults -----------------------------------------------------------------------------------------------------

    def _change(self, number: int) -> None:
        """A fault begins or ends: carry out what is different now."""
        edge = self._edges[number]
        self._transport.advance(self._now_s)
        before, after = self._faults.step(edge, self._now_s)
        if self._faulty is not None and (before.cut, before.shares) != (after.cut, after.shares):
            self._faulty.set_links(after.cut, after.shares)
            self._faults.note_use(self._faulty.home_links())
            if before.cut != after.cut:
                self._event_queue.book(self._now_s + DETECTION_S, Kind.REROUTE, 0)
        for role, instance in sorted(after.dead - before.dead):
            self._lose(role, instance)
            self._faults.worker_lost(edge.fault, role, instance, self._now_s)
        for role, instance in sorted(before.dead - after.dead):
            self._life.restored(role, instance)

    def _reroute(self, _: int) -> None:
        assert self._faulty is not None
        self._transport.advance(self._now_s)
        self._faulty.reroute(self._faults.state.cut)

    def _lose(self, role: Role, instance: int) -> None:
        """Forget what an instance held; its requests are the lifecycle's to fail or try again."""
        if role == "decode":
            self._batches[instance] = self._new_batch()
            self._booked_s[instance] = math.inf
            return
        self._queued[instance].clear()
        self._prefill_busy.discard(instance)
        for request_id in [one for one in self._prefilling if self._life.records[one].prefill_id == instance]:
            del self._prefilling[request_id], self._prefill_ends_s[request_id]
            self._attempts.end(request_id)

    def _give_up_stalled(self) -> bool:
        """Nothing can happen any more but for transfers without a path: these fail. Whether there were any."""
        stalled = self._faulty.stalled_requests if self._faulty is not None else []
        for request_id in stalled:
            self._life.failed(request_id, NO_PATH, self._now_s)
        return bool(stalled)

    def _report_progress(self, _: int) -> None:
        if (closed := self._life.closed) % self._report_every == 0:
            self._say(closed)

    # -- the end ----------------------------------------------------------------------------------------------------

    def _stop_background(self, flow_id: int) -> None:
        self._transport.stop_background(self._background[flow_id])
        self._running_flows.remove(flow_id)

    def _finish(self) -> Outcome:
        self._transport.advance(self._now_s)
        for flow_id in sorted(self._running_flows):
            self._stop_background(flow_id)
        requests, decisions = list(self._life.records.values()), list(self._life.decisions.values())
        self.decisions_us = [row["decision_us"] for row in decisions]
        for record in requests:
            record.decision_us = math.nan
        for row in decisions:
            row["decision_us"] = math.nan
        outcome = Outcome(
            duration_s=max(self._now_s, 0.0), requests=requests, decisions=decisions, links=self._observers.rows
        )
        outcome.faults = self._faults.rows(outcome)
        for running, count in enumerate(self._gaps):
            if count:
                outcome.token_gaps_ms.append(self._scenario.model.step_s(running) * 1e3)
                outcome.token_gap_counts.append(count)
        transfers = sum(row["kv_bytes"] > 0 for row in decisions)
        outcome.evidence |= {
            "kv_bytes": sum(row["kv_bytes"] for row in decisions),
            "background_bytes": round(self._transport.background_B),
            "link_sample_s": self._observers.link_sample_s,
            "events": self.events,
            "mean_flows": self._flows_seen / transfers if transfers else 0.0,
        }
        life = self._life
        for key, found in (
            (POLICY_ERROR, life.policy_error),
            (RETRIED, life.retries.retried),
            (UNREPEATABLE, life.dispatcher.unrepeatable),
        ):
            if found:
                outcome.evidence[key] = found
        return outcome

    def _state(self) -> str:
        total = len(self._requests)
        return (
            f"{total - self._life.closed} of {total} requests open at {self._now_s:g} s: "
            f"{sum(map(len, self._queued.values()))} queued, {len(self._prefilling)} in prefill,"
            f" {len(self._moving)} in transfer, {sum(batch.waiting for batch in self._batches.values())} waiting for a"
            f" batch, {sum(batch.running for batch in self._batches.values())} decoding"
        )
