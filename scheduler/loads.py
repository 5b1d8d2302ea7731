"""The load of the decode instances as the scheduler sees it, and how old that view may be."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scenario import ModelSpec, ServingSpec
from scheduler import kernels
from scheduler.arrays import Bools, Floats, Ints
from workloads import Request

TYPICAL_OUTPUT_TOKENS = 343.0
"""Mean answer of the Mooncake conversation trace: the first guess, before any answer has been seen."""


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
    """Counts an instance, shape [D]; `refresh_s` above 0 freezes what a decision sees between refreshes."""

    instances: int
    serving: ServingSpec
    model: ModelSpec
    refresh_s: float = 0.0
    _now: _Counts = field(init=False)
    _seen: _Counts = field(init=False)
    _next_s: float = field(init=False, default=-np.inf)
    _outputs: int = field(init=False, default=1)
    _output_tokens: float = field(init=False, default=TYPICAL_OUTPUT_TOKENS)

    def __post_init__(self) -> None:
        slots = self.serving.batch_slots
        self._step_s = [self.model.step_s(float(min(running + 1, slots))) for running in range(slots + 1)]
        waiting, running, reserved_tokens = (np.zeros(self.instances, dtype=np.int64) for _ in range(3))
        self._now = _Counts(waiting, running, reserved_tokens, np.full(self.instances, self._step_s[0]))
        self._seen = self._now
        self._everyone = np.ones(self.instances, dtype=np.bool_)
        self._nobody = np.zeros(self.instances, dtype=np.bool_)
        for shared in (self._everyone, self._nobody):
            shared.flags.writeable = False

    def look(self, now_s: float) -> None:
        """Move the view on to `now_s`: always current without a refresh interval, else at each interval's end."""
        if self.refresh_s <= 0:
            self._seen = self._now
        elif now_s >= self._next_s:
            self._seen = self._now.copy()
            self._next_s = now_s + self.refresh_s

    @property
    def waiting(self) -> Ints:
        return self._seen.waiting

    @property
    def running(self) -> Ints:
        return self._seen.running

    @property
    def reserved_tokens(self) -> Ints:
        return self._seen.reserved_tokens

    def dispatched(self, at: int, request: Request) -> None:
        self._now.waiting[at] += 1
        self._now.reserved_tokens[at] += request.input_length + request.output_length

    def admitted(self, at: int) -> None:
        self._now.waiting[at] -= 1
        self._run(at, 1)

    def finished(self, at: int, request: Request) -> None:
        self._run(at, -1)
        self._now.reserved_tokens[at] -= request.input_length + request.output_length
        self._outputs += 1
        self._output_tokens += request.output_length

    def abandoned(self, at: int, request: Request, *, running: bool) -> None:
        """A request that will not finish, whether or not it had reached the batch."""
        if running:
            self._run(at, -1)
        else:
            self._now.waiting[at] -= 1
        self._now.reserved_tokens[at] -= request.input_length + request.output_length

    def feasible(self, request: Request) -> Bools:
        """Whether an empty instance could hold the request, shape [D]."""
        return self._everyone if self.could_hold(request) else self._nobody

    def could_hold(self, request: Request) -> bool:
        """Whether any instance could: they are all alike."""
        return request.input_length + request.output_length <= self.serving.kv_memory_tokens

    @property
    def first_step_s(self) -> Floats:
        """The request's first decode step, with it in the batch, shape [D], seconds."""
        return self._seen.first_step_s

    def admission_wait_s(self, request: Request) -> Floats:
        """Expected wait for a batch slot and KV memory, shape [D], seconds. Our estimate:

        requests that must leave first (by slots, and by memory at the mean reservation) x the time between two
        departures, running / (mean answer x step time) of them a second.
        """
        wait_s: Floats = np.empty(self.instances)
        seen = self._seen
        kernels.admission_wait(
            seen.waiting,
            seen.running,
            seen.reserved_tokens,
            seen.first_step_s,
            self.serving.batch_slots,
            self.serving.kv_memory_tokens - request.input_length - request.output_length,
            self._output_tokens / self._outputs,
            wait_s,
        )
        return wait_s

    def _run(self, at: int, change: int) -> None:
        self._now.running[at] += change
        self._now.first_step_s[at] = self._step_s[self._now.running[at]]
