"""Continuous batching at a decode instance, with the time injected: no clock, no socket, no sleeping.

Owns which requests run, which wait, and when a step ends. The decode worker drives it with the real clock.
Rules (after Orca's iteration-level scheduling, OSDI 2022, with memory reserved ahead):

- A step with b running requests lasts `step_s(b)`. At its end each of them has one more token.
- Requests join only where a step starts, first come first served: one that does not fit blocks those behind it.
- A request needs one slot and `context_tokens + output_tokens` of KV memory; both come free when its last token is out.
- An idle batch starts a step at the very moment a request is offered. Whoever is offered at the exact instant at which
  a step starts is part of it, so the order of simultaneous calls matters only for the queue.
- Step ends follow the schedule, not the caller: being called late moves nothing.

    >>> batch = Batch(lambda running: 0.5, slots=1, memory_tokens=100)
    >>> batch.offer(7, context_tokens=10, output_tokens=2, now_s=1.0)
    [Admitted(request_id=7, at_s=1.0)]
    >>> batch.next_boundary_s
    1.5
    >>> [type(event).__name__ for event in batch.advance(2.0)]
    ['StepEnded', 'FirstToken', 'StepEnded', 'Finished']
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Admitted(NamedTuple):
    """The request joined the batch."""

    request_id: int
    at_s: float


class Rejected(NamedTuple):
    """The request can never fit into the memory of this instance."""

    request_id: int
    at_s: float
    error: str


class StepEnded(NamedTuple):
    """Each of the `running` requests has one more token; steps count up by one from 0."""

    step: int
    at_s: float
    running: int


class FirstToken(NamedTuple):
    """The request's first step has ended."""

    request_id: int
    at_s: float


class MarkedToken(NamedTuple):
    """A token of the request is out that the driver wants to know of."""

    request_id: int
    at_s: float


class Finished(NamedTuple):
    """The last token is out: token i of the request came at the end of step `first_step` + i, at `token_s[i]`."""

    request_id: int
    at_s: float
    first_step: int
    token_s: list[float]


Event = Admitted | Rejected | StepEnded | FirstToken | MarkedToken | Finished


class StepLog:
    """The end times of consecutive steps, as far back as a running request needs them."""

    def __init__(self) -> None:
        self._ends_s: list[float] = []
        self._first = 0

    def __len__(self) -> int:
        return len(self._ends_s)

    def append(self, at_s: float) -> None:
        self._ends_s.append(at_s)

    def ends_s(self, first_step: int, steps: int) -> list[float]:
        start = first_step - self._first
        return self._ends_s[start : start + steps]

    def forget_before(self, step: int) -> None:
        """Drop the steps before this one, which no running request needs."""
        if step > self._first:
            del self._ends_s[: step - self._first]
            self._first = step


class _Request(NamedTuple):
    tokens: int
    output_tokens: int
    marks: Sequence[int]


class Batch:
    """The batch of one decode instance and its queue.

    `step_s(running)` gives the seconds of a step; `slots` bounds the running requests, `memory_tokens` the sum of their
    reserved tokens. Every method that takes `now_s` first ends the steps due by then and returns what happened, in
    order. Times must not run backwards (`ValueError`).
    """

    def __init__(self, step_s: Callable[[int], float], slots: int, memory_tokens: int) -> None:
        if slots < 1 or memory_tokens < 1:
            raise ValueError(f"a batch needs a slot and memory, not {slots} slots and {memory_tokens} tokens")
        self._step_s = step_s
        self._slots = slots
        self._memory_tokens = memory_tokens
        self._free_tokens = memory_tokens
        self._waiting: dict[int, _Request] = {}
        self._running: dict[int, tuple[_Request, int]] = {}  # with the first step
        self._endings: list[tuple[int, int, int]] = []  # heap: last step, order of admission, request
        self._marks: list[tuple[int, int, int, int]] = []  # heap: step, order of admission, request, first step
        self._joined: list[int] = []  # at the start of the current step
        self._admissions = 0
        self._step = 0
        self._step_start_s = float("-inf")
        self._now_s = float("-inf")
        self._log = StepLog()
        self.next_boundary_s: float | None = None
        """When the current step ends; None while the batch is idle."""

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def oldest_step(self) -> int:
        """The first step of the request that has run for longest; the next step to end where none runs."""
        return next((first_step for _, first_step in self._running.values()), self._step)

    def __contains__(self, request_id: int) -> bool:
        """Whether the request waits or runs here."""
        return request_id in self._running or request_id in self._waiting

    @property
    def free_tokens(self) -> int:
        return self._free_tokens

    def fits(self, context_tokens: int, output_tokens: int) -> bool:
        """Whether such a request could run if it were alone."""
        return context_tokens + output_tokens <= self._memory_tokens

    def offer(
        self, request_id: int, context_tokens: int, output_tokens: int, now_s: float, marks: Sequence[int] = ()
    ) -> list[Event]:
        """Queue a request; it joins at the next step with a free slot and memory. ValueError if its id is in use.

        marks: the tokens of its answer, counted from 1, of which a `MarkedToken` tells.
        """
        events = self.advance(now_s)
        if request_id in self:
            raise ValueError(f"request {request_id} is already queued or running")
        if context_tokens < 0 or output_tokens < 1:
            raise ValueError(f"request {request_id} needs at least one output token and no negative context")
        if not self.fits(context_tokens, output_tokens):
            error = f"{context_tokens} + {output_tokens} tokens exceed the memory of {self._memory_tokens} tokens"
            return [*events, Rejected(request_id, now_s, error)]
        self._waiting[request_id] = _Request(context_tokens + output_tokens, output_tokens, marks)
        self._admit(now_s, events)
        return events

    def advance(self, now_s: float) -> list[Event]:
        """End every step that is due by `now_s`."""
        if now_s < self._now_s:
            raise ValueError(f"time runs backwards, from {self._now_s} to {now_s}")
        self._now_s = now_s
        events: list[Event] = []
        while self.next_boundary_s is not None and self.next_boundary_s <= now_s:
            self._end_step(self.next_boundary_s, events)
        return events

    def cancel(self, request_id: int, now_s: float) -> list[Event]:
        """Drop a request, wherever it is; unknown ones are ignored. The current step keeps its length."""
        events = self.advance(now_s)
        self._waiting.pop(request_id, None)
        if request_id in self._running:
            self._free(request_id)
            if request_id in self._joined:
                self._joined.remove(request_id)
            if not self._running:
                self.next_boundary_s = None
        self._admit(now_s, events)
        return events

    def _end_step(self, at_s: float, events: list[Event]) -> None:
        events.append(StepEnded(self._step, at_s, len(self._running)))
        self._log.append(at_s)
        events += [FirstToken(request_id, at_s) for request_id in self._joined]
        self._joined.clear()
        while self._marks and self._marks[0][0] <= self._step:
            _, _, request_id, first_step = heapq.heappop(self._marks)
            if self._running.get(request_id, (None, -1))[1] == first_step:  # else cancelled meanwhile
                events.append(MarkedToken(request_id, at_s))
        while self._endings and self._endings[0][0] <= self._step:
            _, _, request_id = heapq.heappop(self._endings)
            request, first_step = self._running.get(request_id, (None, 0))
            if request is None or first_step + request.output_tokens - 1 != self._step:
                continue  # cancelled meanwhile
            self._free(request_id)
            token_s = self._log.ends_s(first_step, request.output_tokens)
            events.append(Finished(request_id, at_s, first_step, token_s))
        self._step += 1
        self._step_start_s = at_s
        self.next_boundary_s = at_s + self._step_s(len(self._running)) if self._running else None
        self._log.forget_before(self.oldest_step)
        self._admit(at_s, events)

    def _admit(self, now_s: float, events: list[Event]) -> None:
        if self._running and self._step_start_s != now_s:
            return
        before = len(self._running)
        while self._waiting and len(self._running) < self._slots:
            request_id, request = next(iter(self._waiting.items()))
            if request.tokens > self._free_tokens:
                break
            del self._waiting[request_id]
            self._running[request_id] = (request, self._step)
            self._free_tokens -= request.tokens
            self._joined.append(request_id)
            self._admissions += 1
            heapq.heappush(self._endings, (self._step + request.output_tokens - 1, self._admissions, request_id))
            for token in request.marks:
                heapq.heappush(self._marks, (self._step + token - 1, self._admissions, request_id, self._step))
            events.append(Admitted(request_id, now_s))
        if len(self._running) > before:
            self._step_start_s = now_s
            self.next_boundary_s = now_s + self._step_s(len(self._running))

    def _free(self, request_id: int) -> None:
        request, _ = self._running.pop(request_id)
        self._free_tokens += request.tokens
