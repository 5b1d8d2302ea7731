"""The power of two choices, as SGLang's router plays it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scheduler.arrays import Ints
from scheduler.candidates import Candidates
from scheduler.view import View
from workloads import Request


@dataclass(slots=True)
class PowerOfTwo:
    """Two uniform picks, the lower token load wins; equal loads: the first pick.

    sgl-project/sglang at 065f331, sgl-model-gateway/src/policies/power_of_two.rs. Loads are asked for every `refresh_s`
    seconds, 30 by default (`--worker-startup-check-interval` of sglang-router 0.3.2, vllm-router 0.1.17 alike), first
    at the first decision here; what is sent in between does not count (tests/optional/routers/test_http_routers.py).
    Token load is there what the workers report to hold; here KV tokens booked, prompts and expected answers. SGLang
    compares request counts where a token load is missing; here none is.
    """

    refresh_s: float = 30.0
    _tokens: Ints = field(init=False, default_factory=lambda: np.zeros(0, dtype=np.int64))
    _next_s: float = field(init=False, default=-np.inf)

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        if view.now_s >= self._next_s:
            self._tokens, self._next_s = candidates.reserved_tokens.copy(), view.now_s + self.refresh_s
        able = np.flatnonzero(candidates.feasible)
        first, second = two_of(len(able), view.rng)
        tokens = self._tokens[able]
        return int(candidates.decode_id[able[second if tokens[second] < tokens[first] else first]])


def two_of(count: int, rng: np.random.Generator) -> tuple[int, int]:
    """Two different positions among `count`, every ordered pair equally likely; the same twice if there is but one."""
    first = int(rng.integers(count))
    if count == 1:
        return first, first
    second = int(rng.integers(count - 1))
    return first, second + (second >= first)
