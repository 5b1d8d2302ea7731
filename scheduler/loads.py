"""The load of the decode instances as the scheduler knows it, and how old this knowledge may be.

No router knows how long an answer will be. Memory is booked for the prompt and an expected answer: the mean of those
that have finished. Only whether an instance could ever hold a request is judged by the answer itself, which stands for
the limit (`max_tokens`) that a client sends with its request.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scenario import ModelSpec, ServingSpec
from scheduler import kernels
from scheduler.arrays import Bools, Floats, Ints
from workloads import Request

TYPICAL_OUTPUT_TOKENS = 343.0
"""Mean answer of the Mooncake conversation trace: expected before any has finished, later as one of those that have."""


@dataclass
class _Counts:
    waiting: Ints
    running: Ints
    reserved_tokens: Ints
    first_step_s: Floats

    def copy(self) -> _Counts:
        return _Counts(self.waiting.copy(), self.running.copy(), self.reserved_tokens.copy(), self.first_step_s.copy())


@dataclass
class DecodeLoads:
    """The load of each of `instances` decode instances, shape [D].

    `refresh_s` above 0: decisions use a copy of the load that is replaced at this interval, seconds.
    """

    instances: int
    serving: ServingSpec
    model: ModelSpec
    refresh_s: float = 0.0
    _current: _Counts = field(init=False)
    _known: _Counts = field(init=False)
    _next_s: float = field(init=False, default=-np.inf)
    _outputs: int = field(init=False, default=1)
    _output_tokens: float = field(init=False, default=TYPICAL_OUTPUT_TOKENS)
    _booked_tokens: dict[int, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        slots = self.serving.batch_slots
        self._step_s = [self.model.step_s(float(min(running + 1, slots))) for running in range(slots + 1)]
        waiting, running, reserved_tokens = (np.zeros(self.instances, dtype=np.int64) for _ in range(3))
        self._current = _Counts(waiting, running, reserved_tokens, np.full(self.instances, self._step_s[0]))
        self._known = self._current
        self._prompt_tokens = np.zeros(self.instances, dtype=np.int64)
        self._forget_what_was_sent()
        self._nobody = np.zeros(self.instances, dtype=np.bool_)
        self._nobody.flags.writeable = False
        self._dead: frozenset[int] = frozenset()
        self.set_dead(self._dead)

    def look(self, now_s: float) -> None:
        """The moment of the next decision. The load is current, or with a refresh interval renewed when one ends."""
        if self.refresh_s <= 0:
            self._known = self._current
        elif now_s >= self._next_s:
            self._known = self._current.copy()
            self._forget_what_was_sent()
            self._next_s = now_s + self.refresh_s

    @property
    def waiting(self) -> Ints:
        """Requests sent to each instance and not yet in its batch, shape [D]."""
        return self._known.waiting

    @property
    def running(self) -> Ints:
        """Requests in the batch of each instance, shape [D]."""
        return self._known.running

    @property
    def reserved_tokens(self) -> Ints:
        """KV tokens booked for both on each instance, prompts and expected answers, shape [D]."""
        return self._known.reserved_tokens

    @property
    def outstanding(self) -> Ints:
        """Requests sent to each instance and not finished, shape [D]: a router's own count, which is never old."""
        count: Ints = self._current.waiting + self._current.running
        return count

    @property
    def prompt_tokens(self) -> Ints:
        """Prompt tokens of the outstanding requests of each instance, shape [D]; never old, either."""
        return self._prompt_tokens

    @property
    def sent_since(self) -> Ints:
        """Unfinished requests sent to each instance since the load was looked at, shape [D]; 0 where it is current."""
        return self._sent_since

    @property
    def expected_output_tokens(self) -> int:
        """The answer expected of any request, tokens: the mean of those that have finished."""
        return round(self._output_tokens / self._outputs)

    def dispatched(self, at: int, request: Request) -> None:
        """A request was sent to the instance at position `at`."""
        tokens = request.input_length + self.expected_output_tokens
        self._booked_tokens[request.request_id] = tokens
        self._current.waiting[at] += 1
        self._current.reserved_tokens[at] += tokens
        self._prompt_tokens[at] += request.input_length
        if self._known is not self._current:
            self._since.add(request.request_id)
            self._sent_since[at] += 1
            self._tokens_since[at] += tokens

    def admitted(self, at: int) -> None:
        """A request joined the batch there."""
        self._current.waiting[at] -= 1
        self._run(at, 1)

    def finished(self, at: int, request: Request) -> None:
        """A request emitted its last token there."""
        self._run(at, -1)
        self._leave(at, request)
        self._outputs += 1
        self._output_tokens += request.output_length

    def abandoned(self, at: int, request: Request, *, running: bool) -> None:
        """A request that will not finish, whether or not it had reached the batch."""
        if running:
            self._run(at, -1)
        else:
            self._current.waiting[at] -= 1
        self._leave(at, request)

    def set_dead(self, positions: frozenset[int]) -> None:
        """The positions of the instances that are known to be dead, from now on."""
        self._dead = positions
        self._alive = np.ones(self.instances, dtype=np.bool_)
        self._alive[list(positions)] = False
        self._alive.flags.writeable = False

    @property
    def anybody(self) -> bool:
        """Whether any instance is not known to be dead."""
        return len(self._dead) < self.instances

    def feasible(self, request: Request) -> Bools:
        """Whether an instance is alive and, empty, could hold the request, shape [D]."""
        return self._alive if self.could_hold(request) else self._nobody

    def could_hold(self, request: Request) -> bool:
        """Whether any instance could: they are all alike. The longest that the answer may get counts."""
        return request.input_length + request.output_length <= self.serving.kv_memory_tokens

    @property
    def first_step_s(self) -> Floats:
        """The request's first decode step, with it in the batch, shape [D], seconds."""
        return self._known.first_step_s

    def admission_wait_s(self, request: Request) -> Floats:
        """Expected wait for a batch slot and KV memory, shape [D], seconds. Our estimate:

        requests that must leave first (by slots, and by memory at the mean reservation) x the time between two
        departures, running / (mean answer x step time) of them a second. What was sent since the load was looked at
        and has not finished counts as waiting.
        """
        wait_s: Floats = np.empty(self.instances)
        known = self._known
        kernels.admission_wait(
            known.waiting + self._sent_since,
            known.running,
            known.reserved_tokens + self._tokens_since,
            known.first_step_s,
            self.serving.batch_slots,
            self.serving.kv_memory_tokens - request.input_length - self.expected_output_tokens,
            self._output_tokens / self._outputs,
            wait_s,
        )
        return wait_s

    def _forget_what_was_sent(self) -> None:
        self._since: set[int] = set()
        self._sent_since, self._tokens_since = (np.zeros(self.instances, dtype=np.int64) for _ in range(2))

    def _leave(self, at: int, request: Request) -> None:
        tokens = self._booked_tokens.pop(request.request_id)
        self._current.reserved_tokens[at] -= tokens
        self._prompt_tokens[at] -= request.input_length
        if request.request_id in self._since:
            self._since.remove(request.request_id)
            self._sent_since[at] -= 1
            self._tokens_since[at] -= tokens

    def _run(self, at: int, change: int) -> None:
        self._current.running[at] += change
        self._current.first_step_s[at] = self._step_s[self._current.running[at]]
