"""CLA: cache- and load-aware, blind to the network; its tuned form CLA*; and the scores of llm-d's router."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.arrays import Floats
from scheduler.candidates import Candidates
from scheduler.view import View
from workloads import Request


@dataclass(slots=True)
class CacheLoadAware:
    """argmax 2 * prefix + 1 * queue: llm-d-router's P/D sample (deploy/config/pd-epp-config.yaml), decode profile.

    prefix = matched blocks / prompt blocks; queue = (q_max - q) / (q_max - q_min), q the requests sent to an instance
    and not yet in its batch (vLLM counts a request whose KV is still on its way as waiting); 1 for all when equal.
    Ties at random.
    """

    prefix: float = 2.0
    queue: float = 1.0

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        score = self.prefix * prefix_score(request, candidates) + self.queue * queue_score(candidates)
        return candidates.best_at_random(score, view.rng)


def prefix_score(request: Request, candidates: Candidates) -> Floats:
    """The share of the prompt's blocks that each instance holds."""
    score: Floats = (candidates.cached_tokens // request.block_tokens) / max(len(request.block_ids), 1)
    return score


def queue_score(candidates: Candidates) -> Floats:
    """1 for the shortest queue, 0 for the longest, linear between; 1 for all when they are equal."""
    waiting = candidates.waiting.astype(np.float64)
    longest, spread = waiting.max(), np.ptp(waiting)
    score: Floats = (longest - waiting) / spread if spread > 0 else np.ones(len(waiting))
    return score


def memory_score(candidates: Candidates) -> Floats:
    """The share of KV memory that is free."""
    score: Floats = 1 - candidates.kv_use
    return score
