"""The power of two choices, as SGLang's router plays it."""

from __future__ import annotations

import numpy as np

from scheduler.candidates import Candidates
from scheduler.view import View
from workloads import Request


class PowerOfTwo:
    """Two uniform picks, the lower token load wins; equal loads: the first pick.

    sgl-project/sglang at 065f331, sgl-model-gateway/src/policies/power_of_two.rs. Token load is there what the workers
    report to hold; here KV tokens booked, prompts and expected answers. SGLang compares request counts where a token
    load is missing; here none is.
    """

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        able = np.flatnonzero(candidates.feasible)
        first, second = two_of(len(able), view.rng)
        tokens = candidates.reserved_tokens[able]
        return int(candidates.decode_id[able[second if tokens[second] < tokens[first] else first]])


def two_of(count: int, rng: np.random.Generator) -> tuple[int, int]:
    """Two different positions among `count`, every ordered pair equally likely; the same twice if there is but one."""
    first = int(rng.integers(count))
    if count == 1:
        return first, first
    second = int(rng.integers(count - 1))
    return first, second + (second >= first)
