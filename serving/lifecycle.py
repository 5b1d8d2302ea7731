"""The life of every request of a run, written once for both worlds.

    arrival -> prefill queue -> prefill -> selection -> KV transfer -> decode admission -> first token -> last token

With `serving.kv_admission` = `before_transfer` the transfer is ordered once the decode instance has room. With
`serving.overlap` above 0 selection and transfer come at the start of the prefill, not after it.

Owns the order of these steps, what the scheduler is asked and told at each, and the record of each, also of rejection,
failure and early end. A world has its own clock and movers: it does what `Movers` is told and reports what has happened
to the `Lifecycle`. All times are seconds of the real system from t = 0.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from scenario import Role, Scenario
from scheduler import Decision, Dispatcher, Policy, PolicyError, PrefixIndex, RejectedError
from serving.decode_memory import DecodeMemory
from serving.movers import Hit, Movers
from serving.outcome import ENDED_EARLY, RequestRecord
from serving.prefill_queue import PrefillQueues
from serving.retries import Retries
from serving.turns import Turns
from topologies import Fabric, Roles
from workloads import BLOCK_TOKENS, Request

DECISION_FIELDS = tuple(item.name for item in fields(Decision) if item.name != "reason")

STAGES = ("queue", "prefill", "transfer", "admission", "decode")
"""Where a request that has arrived can be: waiting for prefill, in it, on its way, waiting for decode, in it."""


class Lifecycle:
    """The requests of one run and how far each has come.

    `records`, `decisions`: rows of the run's tables by request; `policy_error`: how the policy broke its contract and
    so ended the run, or empty; `retries`: how often each was tried; `turns`: which come by themselves, which have
    come. `on_closed` hears of each request that is over, and may take its decision out.
    """

    def __init__(
        self,
        scenario: Scenario,
        fabric: Fabric,
        roles: Roles,
        requests: Sequence[Request],
        movers: Movers,
        *,
        on_closed: Callable[[int], None] = lambda _: None,
        stopwatch: Callable[[], int] = time.perf_counter_ns,
        policy: Policy | None = None,
        prefixes: PrefixIndex | None = None,
    ) -> None:
        """stopwatch: nanoseconds, for `decision_us`. policy: instead of a new one. prefixes: what is held at t = 0."""
        self._movers = movers
        self._on_closed = on_closed
        self._requests = {request.request_id: request for request in requests}
        gpus = scenario.fabric.gpus_per_instance
        self._prefill_s = {r.request_id: scenario.model.prefill_s(r.input_length, gpus) for r in requests}
        self._queues = PrefillQueues(roles.prefill)
        serving = scenario.serving
        before = serving.kv_admission == "before_transfer"
        self._memory = DecodeMemory(roles.decode, serving.kv_memory_tokens) if before else None
        self._overlap = serving.overlap > 0
        self._in_prefill: set[int] = set()
        self.retries = Retries(serving.retry)
        self._answer_s = scenario.model.step_s(serving.batch_slots)
        self._no_sender: dict[int, str] = {}
        self._open = set(self._requests)
        self.turns = Turns(requests)
        self._decided: dict[int, Decision] = {}
        self._sent_from_s: dict[int, float] = {}
        self._received_s: dict[int, float] = {}
        block_tokens = requests[0].block_tokens if requests else BLOCK_TOKENS
        self.dispatcher = Dispatcher(scenario, fabric, roles, policy, stopwatch, block_tokens, prefixes)
        self.records = {request.request_id: RequestRecord.of(request, scenario.policy) for request in requests}
        self.decisions: dict[int, dict[str, Any]] = {}
        self.policy_error = ""

    @property
    def closed(self) -> int:
        """How many requests are over, one way or another."""
        return len(self.records) - len(self._open)

    @property
    def done(self) -> bool:
        """Whether no request is open."""
        return not self._open

    def stage_of(self, request_id: int) -> str | None:
        """Which of `STAGES` a request that has arrived is in; None when it is over."""
        if request_id not in self._open:
            return None
        record = self.records[request_id]
        if request_id not in self._decided:
            return "queue" if math.isnan(record.queue_ms) else "prefill"
        if request_id not in self._received_s:
            return "transfer"
        return "admission" if math.isnan(record.admission_ms) else "decode"

    # -- what a world reports ---------------------------------------------------------------------------------------

    def arrive(self, request: Request) -> None:
        """The request is there: an instance is chosen for its prefill."""
        self.turns.arrived.append(request.request_id)
        self._requests[request.request_id] = request
        self.records[request.request_id].timestamp_s = request.timestamp_s
        self._arrive(request, request.timestamp_s)

    def _arrive(self, request: Request, at_s: float) -> None:
        if request.request_id not in self._open:
            return  # the run has ended early
        prefill_s = self._prefill_s[request.request_id]
        prefill_id = self._queues.assign(prefill_s, self.retries.avoided(request.request_id))
        if prefill_id is None:
            self._close(request.request_id, "no prefill instance is running")
            return
        self.records[request.request_id].prefill_id = prefill_id
        self._in_prefill.add(request.request_id)
        self._expect(request.request_id, at_s + self._queues.work_s(prefill_id))
        self._movers.prefill(request, prefill_id, prefill_s)

    def prefill_started(self, request_id: int, at_s: float, now_s: float | None = None) -> None:
        """`now_s`: when the world has learned of it, if later. With an overlap the decode instance is chosen then."""
        record = self.records[request_id]
        record.queue_ms = (at_s - record.timestamp_s) * 1e3
        self._expect(request_id, at_s + self._prefill_s[request_id])
        if self._overlap and request_id in self._open:
            self._select(request_id, at_s if now_s is None else now_s)

    def prefilled(self, request_id: int, took_s: float, now_s: float) -> None:
        """The prompt's KV is there: the scheduler chooses the decode instance, and the transfer is ordered."""
        self._end_prefill(request_id)
        if request_id not in self._open:
            return  # the run has ended early, or it was rejected meanwhile
        self.records[request_id].prefill_ms = took_s * 1e3
        if not self._overlap:
            self._select(request_id, now_s)
        elif self._decided[request_id].kv_bytes == 0 and self._is_ordered(request_id):
            self._movers.transfer(self._requests[request_id], self._decided[request_id])

    def _select(self, request_id: int, now_s: float) -> None:
        request, record = self._requests[request_id], self.records[request_id]
        try:
            decision = self.dispatcher.select(request, record.prefill_id, now_s, self.retries.avoided(request_id))
        except RejectedError as problem:
            record.status = "rejected"
            self._close(request_id, str(problem))
            return
        except PolicyError as problem:
            self._end_early(request_id, str(problem))
            return
        record.decided(decision)
        self._decided[request_id] = decision
        self.decisions[request_id] = {name: getattr(decision, name) for name in DECISION_FIELDS}
        self.decisions[request_id] |= {"reason": decision.reason} if decision.reason else {}
        if self._memory is None:
            self._move(request_id, now_s)
        elif self._memory.ask(decision.decode_id, request_id, request.input_length + request.output_length):
            self._order(request_id, now_s)
        else:
            self._expect(request_id, math.inf)
            self.dispatcher.hold(request_id)

    def _order(self, request_id: int, now_s: float) -> None:
        """The request has its memory: have its KV moved."""
        decision = self._decided[request_id]
        waited_s = max(now_s - decision.decided_s, 0.0)
        self.decisions[request_id]["memory_wait_ms"] = waited_s * 1e3
        self.dispatcher.release(request_id, decision.decided_s + waited_s)
        self._move(request_id, decision.decided_s + waited_s)

    def _move(self, request_id: int, now_s: float) -> None:
        """Where nothing is to be moved there is nothing to send ahead of the end of the prefill."""
        decision = self._decided[request_id]
        self._expect(request_id, now_s + (self._prefill_s[request_id] if request_id in self._in_prefill else 0.0))
        if decision.kv_bytes or request_id not in self._in_prefill:
            self._movers.transfer(self._requests[request_id], decision)

    def sending(self, request_id: int, at_s: float, **facts: Any) -> None:
        """When the sender began to send; `facts` of the transfer go into the decision's row.

        A world may learn of it last of all, with the sender's account of the whole transfer.
        """
        if request_id not in self._open:
            return  # the run has ended early
        self._sent_from_s[request_id] = at_s
        self.decisions[request_id] |= {**facts, "transfer_started_s": at_s}
        self._note_transfer(request_id)
        if self.records[request_id].status == "completed":
            self._close(request_id)

    def received(self, request_id: int, at_s: float) -> None:
        """The last byte is in: the request waits for a place in the batch, and its prefix can be shared."""
        if request_id in self._open:
            self._received_s[request_id] = at_s
            self._note_transfer(request_id)
            self._expect(request_id, at_s)
            self._book(self.dispatcher.transferred, request_id, at_s)

    def admitted(self, request_id: int, at_s: float) -> None:
        if request_id in self._open:
            self.records[request_id].admission_ms = (at_s - self._received_s[request_id]) * 1e3
            self._book(self.dispatcher.admitted, request_id)
            self._expect(request_id, at_s + self._requests[request_id].output_length * self._answer_s)

    def token_block(self, request_id: int) -> None:
        """A token of the answer has begun another block of KV."""
        if request_id in self._open:
            self._book(self.dispatcher.token_block, request_id)

    def first_token(self, request_id: int, at_s: float) -> None:
        """For a world that learns of it before the last one: a request that fails in between keeps its TTFT."""
        record = self.records[request_id]
        if request_id in self._open:
            record.ttft_ms = (at_s - record.timestamp_s) * 1e3

    def finished(self, request_id: int, first_token_s: float, last_token_s: float) -> None:
        if request_id in self._open:
            self.records[request_id].emitted(first_token_s, last_token_s)
            nothing_awaited = request_id in self._sent_from_s or request_id in self._no_sender
            self._book(self.dispatcher.finished, request_id)
            self._free_memory(request_id, last_token_s)
            if (turn := self.turns.answered(request_id, last_token_s)) is not None:
                self._movers.arrive_later(turn)
            if nothing_awaited:  # else as soon as the sender reports
                self._close(request_id, self._no_sender.get(request_id, ""))

    def overdue(self, request_id: int, now_s: float) -> None:
        """It is time to look whether anything was heard of a request: its attempt is over if not."""
        if request_id not in self._open or self.records[request_id].status == "completed":
            return
        again_s = self.retries.look(request_id, now_s)
        if again_s > now_s:
            if again_s < math.inf:
                self._movers.wake(request_id, again_s)
            return
        self.failed(request_id, f"nothing was heard of it in {self.stage_of(request_id)}", now_s, silent=True)

    def failed(self, request_id: int, error: str, now_s: float | None = None, *, silent: bool = False) -> None:
        """Something broke on the way, wherever the request had got to: it fails.

        Where `serving.retry` leaves it another attempt, and `now_s` is given, it is tried once more instead. `silent`:
        nobody knows whether the prefill instance still has the KV, so that it is prefilled anew unless it has arrived.
        """
        if request_id not in self._open:
            return
        if self.records[request_id].status == "completed":
            self._close(request_id, error)
        elif now_s is not None and self.retries.may(request_id):
            self._try_again(request_id, now_s, silent and request_id not in self._received_s)
        else:
            self._take_back(request_id, now_s)
            self._close(request_id, error)

    def lost(self, role: Role, instance: int, reason: str, now_s: float) -> Hit:
        """An instance has ended with all that it held: it is given nothing until `restored`.

        Requests whose KV it has or awaits fail for this reason, or are tried once more (`failed`).
        """
        if role == "decode":
            self.dispatcher.lost(instance)
            if self._memory is not None:
                self._memory.clear(instance)
        else:
            self._queues.set_dead(instance, True)
        hit = [request_id for request_id in sorted(self._open) if self._is_at(request_id, role, instance)]
        hit.sort(key=self._is_ordered)  # who waits leaves first, so that what others free is not given to it
        again = [request_id for request_id in hit if self.retries.may(request_id)]
        for request_id in hit:
            self.failed(request_id, reason, now_s)
        if role == "prefill":
            self._lose_senders(instance, reason)
        return Hit([request_id for request_id in hit if request_id not in again], again)

    def restored(self, role: Role, instance: int) -> None:
        """An instance runs again, empty."""
        if role == "decode":
            self.dispatcher.restored(instance)
        else:
            self._queues.set_dead(instance, False)

    def refused(self, request_id: int, error: str) -> None:
        """The decode instance turns the request away."""
        if request_id in self._open:
            self.records[request_id].status = "rejected"
            self.failed(request_id, error)

    def give_up(self, error: str) -> None:
        """The run is over: every open request ends as what it is by now, and later reports of it are too late."""
        for request_id in sorted(self._open):
            self._close(request_id, error)

    # -- what is lost -----------------------------------------------------------------------------------------------

    def _is_at(self, request_id: int, role: Role, instance: int) -> bool:
        """Whether an open request needs that instance: decode once it is chosen, prefill until the KV has left."""
        if self.records[request_id].status == "completed":
            return False
        if role == "decode":
            return request_id in self._decided and self._decided[request_id].decode_id == instance
        return self.records[request_id].prefill_id == instance and request_id not in self._received_s

    def _lose_senders(self, prefill_id: int, reason: str) -> None:
        """Of KV that has arrived, its sender will not report any more."""
        for request_id in sorted(self._open):
            if self.records[request_id].prefill_id == prefill_id and request_id not in self._sent_from_s:
                self._no_sender[request_id] = f"{reason}; it had not reported when it began to send"
                if self.records[request_id].status == "completed":
                    self._close(request_id, self._no_sender[request_id])

    def _try_again(self, request_id: int, now_s: float, kv_lost: bool) -> None:
        """Select once more; after another prefill where the KV is lost, or its prefill instance has ended."""
        decision, prefill_id = self._decided.get(request_id), self.records[request_id].prefill_id
        prefilled = request_id not in self._in_prefill and not kv_lost
        failed_at = ([decision.decode_id] if decision else []) + ([] if prefilled else [prefill_id])
        self.retries.again(request_id, *failed_at)
        if decision is None and kv_lost:
            self._movers.abandon(request_id, None)
        self._take_back(request_id, now_s)
        if request_id not in self._open:
            return  # the run has ended early
        self.decisions.pop(request_id, None)
        self.records[request_id].undecided()
        if prefilled and not self._queues.is_dead(prefill_id):
            self._select(request_id, now_s)
        else:
            self._arrive(self._requests[request_id], now_s)

    def _take_back(self, request_id: int, now_s: float | None) -> None:
        """Undo what is booked for a request, wherever it had got to."""
        if (decision := self._decided.get(request_id)) is not None:
            self._sent_from_s.pop(request_id, None)
            self._received_s.pop(request_id, None)
            self._movers.abandon(request_id, decision.decode_id)
            self._book(self.dispatcher.failed, request_id)
            self._free_memory(request_id, now_s)
            self._decided.pop(request_id, None)  # the run may have ended early
        self._end_prefill(request_id)

    def _is_ordered(self, request_id: int) -> bool:
        """Whether nothing keeps the transfer of a request waiting, as far as memory goes."""
        return self._memory is None or "memory_wait_ms" in self.decisions.get(request_id, ())

    def _end_prefill(self, request_id: int) -> None:
        if request_id in self._in_prefill:
            self._in_prefill.remove(request_id)
            self._queues.done(self.records[request_id].prefill_id, self._prefill_s[request_id])

    def in_prefill(self, request_id: int) -> bool:
        """Whether the prompt of an open request has not been prefilled yet."""
        return request_id in self._in_prefill

    def _free_memory(self, request_id: int, now_s: float | None) -> None:
        """A request has left its decode instance: order the transfers that its memory is enough for."""
        if self._memory is not None and request_id in self._decided:  # or the run has ended early
            for waiting in self._memory.leave(self._decided[request_id].decode_id, request_id):
                if waiting in self._open:  # the same
                    self._order(waiting, -math.inf if now_s is None else now_s)

    def _expect(self, request_id: int, by_s: float) -> None:
        """Something will be heard of the request by then, unless it is lost."""
        if (look_s := self.retries.expect(request_id, by_s)) is not None:
            self._movers.wake(request_id, look_s)

    def _book(self, step: Callable[..., None], request_id: int, *at_s: float) -> None:
        """Tell the scheduler of a step. A policy that breaks its contract on hearing of it ends the run."""
        try:
            step(request_id, *at_s)
        except PolicyError as problem:
            self._end_early(request_id, str(problem))

    def _note_transfer(self, request_id: int) -> None:
        """`kv_transfer_ms`, defined here alone: from the sender's start to the receiver's last byte, 0 for no bytes."""
        took_s = self._received_s.get(request_id, math.nan) - self._sent_from_s.get(request_id, math.nan)
        if math.isnan(took_s):
            return  # only one end has reported
        self.records[request_id].kv_transfer_ms = max(took_s, 0.0) * 1e3 if self._decided[request_id].kv_bytes else 0.0

    def _close(self, request_id: int, error: str = "") -> None:
        self.records[request_id].error = error
        self._open.discard(request_id)
        if self.records[request_id].status != "completed":
            for turn in self.turns.unanswered(request_id):
                self.records[turn].error = f"request {request_id}, a turn before it, was not answered"
                self._open.discard(turn)
        for known in (self._decided, self._sent_from_s, self._received_s):
            known.pop(request_id, None)
        self._on_closed(request_id)

    def _end_early(self, request_id: int, error: str) -> None:
        """The policy broke its contract: nobody is asked again, and the records keep what has happened so far."""
        self.policy_error = error
        for open_id in sorted(self._open):
            self._close(open_id, error if open_id == request_id else ENDED_EARLY)
