"""The decode instances a decision may choose from, as parallel arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.arrays import Bools, Floats, Ints
from scheduler.kernels import best_indices

TIE = 1e-9
"""Costs (seconds) and scores (around 1) that differ by less are equal: rounding must not decide, on any platform."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the scheduler knows of each decode instance at the moment of one decision; every array has shape [D].

    decode_id: the instance's index in the fabric, ascending. tier: distance from the request's prefill instance, 0-3.
    cached_tokens: prompt tokens whose KV it already holds. waiting: requests sent to it and not yet in its batch.
    running: requests in its batch. reserved_tokens: KV tokens booked for both, prompts and expected answers.
    kv_use: those over its KV memory, 0-1. The last four may be old (`oracle.load_refresh_s`). What the scheduler counts
    by itself never is: outstanding, requests sent to it and not finished; prompt_tokens, their prompts; sent_since,
    outstanding ones sent to it since the load was looked at (0 when it is current). admission_wait_s, first_step_s:
    estimates of the cost model, seconds; the first counts what was sent since. feasible: whether it is not known to be
    dead and could ever hold the request. rng: the run's random stream, for ties.
    """

    prefill_id: int
    decode_id: Ints
    tier: Ints
    cached_tokens: Ints
    waiting: Ints
    running: Ints
    reserved_tokens: Ints
    kv_use: Floats
    outstanding: Ints
    prompt_tokens: Ints
    sent_since: Ints
    admission_wait_s: Floats
    first_step_s: Floats
    feasible: Bools
    rng: np.random.Generator

    def __len__(self) -> int:
        return len(self.decode_id)

    @property
    def load(self) -> Ints:
        """Requests at each instance by the last look at its load, with those sent to it since; shape [D]."""
        return self.waiting + self.sent_since + self.running

    def best(self, cost: Floats | Ints) -> int:
        """The feasible instance of least cost; ties, to a nanosecond, go to the lower (tier, load), then at random."""
        tied = np.empty(len(self), dtype=np.int64)
        costs = np.array(cost, dtype=np.float64)
        count = best_indices(costs, self.feasible, self.tier, self.load, TIE, tied)
        if not count:
            raise ValueError("no feasible instance has a cost")
        return self._drawn(tied[:count], self.rng)

    def best_at_random(self, score: Floats | Ints, rng: np.random.Generator) -> int:
        """The feasible instance of highest score; ties at random, as public routers do."""
        highest = score[self.feasible].max()
        return self._drawn(np.flatnonzero(self.feasible & (score >= highest - TIE)), rng)

    def _drawn(self, tied: Ints, rng: np.random.Generator) -> int:
        """One of these positions. A draw is made for a tie only, so that the stream does not depend on rounding."""
        return int(self.decode_id[tied[0 if len(tied) == 1 else rng.integers(len(tied))]])
