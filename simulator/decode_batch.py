"""Continuous batching in closed form: the rules of `workers.batch`, without stepping token by token.

While no request joins or leaves, every step lasts the same, so the batch jumps from one such change to the next. Tests
compare it with `workers.batch.Batch`, which states the rules and steps.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Joined(NamedTuple):
    """The request joined the batch."""

    request_id: int
    at_s: float


class Left(NamedTuple):
    """The request's last token is out."""

    request_id: int
    at_s: float
    first_token_s: float


class Marked(NamedTuple):
    """A token of the request is out that somebody wants to know of."""

    request_id: int
    at_s: float


BatchEvent = Joined | Left | Marked


class DecodeBatch:
    """The batch of one decode instance and its queue.

    `step_s(running)` gives the seconds of a step, `slots` bounds the running requests, `memory_tokens` the sum of their
    reserved tokens. `gaps[b]` counts the gaps between two tokens of one request that were steps of b running requests;
    several batches may share it. Times must not run backwards.
    """

    def __init__(self, step_s: Callable[[int], float], slots: int, memory_tokens: int, gaps: list[int]) -> None:
        self._step_s = [step_s(running) for running in range(1, slots + 1)]
        self._slots = slots
        self._memory_tokens = memory_tokens
        self._free_tokens = memory_tokens
        self._gaps = gaps
        # request, tokens, output tokens, marked tokens
        self._waiting: deque[tuple[int, int, int, Sequence[int]]] = deque()
        self._endings: list[tuple[int, int, int, int]] = []  # heap: last step, order of admission, request, tokens
        self._marks: list[tuple[int, int, int]] = []  # heap: step of a marked token, order of admission, request
        self._joined: list[int] = []  # at the start of step `_step`
        self._first_token_s: dict[int, float] = {}
        self._admissions = 0
        self._step = 0  # the last step at whose start the batch changed, when it started, and how long each now lasts
        self._start_s = -math.inf
        self._length_s = math.inf
        self.next_s = math.inf
        """When a request joins, leaves or emits a marked token next, if none is offered; seconds, infinite if never."""

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return len(self._endings)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    def offer(
        self, request_id: int, context_tokens: int, output_tokens: int, now_s: float, marks: Sequence[int] = ()
    ) -> list[BatchEvent]:
        """Queue a request; it joins at the next step with a free slot and memory. ValueError if it never could.

        marks: the tokens of its answer, counted from 1, of which a `Marked` tells.
        """
        tokens = context_tokens + output_tokens
        if tokens > self._memory_tokens or output_tokens < 1:
            raise ValueError(f"request {request_id}: {tokens} tokens exceed the memory of {self._memory_tokens} tokens")
        events = self.advance(now_s)
        self._waiting.append((request_id, tokens, output_tokens, marks))
        if len(self._waiting) > 1:
            return events  # the first in the queue has its turn booked, or is blocked
        self._let_in(now_s, events)
        return events

    def withdraw(self, request_id: int, now_s: float) -> list[BatchEvent]:
        """Take a request out of the queue, if it is there; who was behind it may join at the next step."""
        events = self.advance(now_s)
        left = deque(one for one in self._waiting if one[0] != request_id)
        if len(left) < len(self._waiting):
            self._waiting = left
            if left:
                self._let_in(now_s, events)
        return events

    def _let_in(self, now_s: float, events: list[BatchEvent]) -> None:
        """Let the first in the queue join now, if a step starts, or book its turn."""
        if not self._endings:
            self._start_s = now_s
            self._admit(events)
        elif self._fits():
            steps = self._steps_until(now_s)
            if self._start_s + steps * self._length_s == now_s:
                if steps:
                    self._begin_step(steps)
                self._admit(events)
            else:
                self.next_s = min(self.next_s, self._start_s + steps * self._length_s)

    def advance(self, now_s: float) -> list[BatchEvent]:
        """Let all happen that is due by `now_s`; what did, in order."""
        events: list[BatchEvent] = []
        while self.next_s <= now_s:
            self._change(events)
        return events

    def _change(self, events: list[BatchEvent]) -> None:
        """End the step at `next_s`: requests with all tokens leave, requests that fit join."""
        at_s = self.next_s
        self._begin_step(self._steps_until(at_s))
        self._start_s = at_s
        while self._marks and self._marks[0][0] < self._step:
            events.append(Marked(heapq.heappop(self._marks)[2], at_s))
        while self._endings and self._endings[0][0] < self._step:
            _, _, request_id, tokens = heapq.heappop(self._endings)
            self._free_tokens += tokens
            events.append(Left(request_id, at_s, self._first_token_s.pop(request_id)))
        self._admit(events)

    def _begin_step(self, steps: int) -> None:
        """Account for `steps` steps, at least one, with the batch as it is."""
        running = len(self._endings)
        self._gaps[running] += steps * running - len(self._joined)
        first_token_s = self._start_s + self._length_s
        for request_id in self._joined:
            self._first_token_s[request_id] = first_token_s
        self._joined.clear()
        self._step += steps
        self._start_s += steps * self._length_s

    def _admit(self, events: list[BatchEvent]) -> None:
        """Let requests join the step that starts now, first come first served; book the next change."""
        while self._waiting and self._fits():
            request_id, tokens, output_tokens, marks = self._waiting.popleft()
            self._free_tokens -= tokens
            self._admissions += 1
            heapq.heappush(self._endings, (self._step + output_tokens - 1, self._admissions, request_id, tokens))
            for token in marks:
                heapq.heappush(self._marks, (self._step + token - 1, self._admissions, request_id))
            self._joined.append(request_id)
            events.append(Joined(request_id, self._start_s))
        if self._endings:
            self._length_s = self._step_s[len(self._endings) - 1]
            last = self._endings[0][0] if not self._marks else min(self._endings[0][0], self._marks[0][0])
            self.next_s = self._start_s + (last + 1 - self._step) * self._length_s
        else:
            self.next_s = math.inf

    def _fits(self) -> bool:
        return len(self._endings) < self._slots and self._waiting[0][1] <= self._free_tokens

    def _steps_until(self, now_s: float) -> int:
        """The number of steps from the last change to the first start of a step at or after `now_s`."""
        steps = max(round((now_s - self._start_s) / self._length_s) - 1, 0)
        while self._start_s + steps * self._length_s < now_s:
            steps += 1
        return steps
