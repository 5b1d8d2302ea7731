"""CLA: cache- and load-aware, blind to the network; its tuned form CLA*; and the scores of llm-d's router."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scheduler.arrays import Floats
from scheduler.candidates import Candidates
from scheduler.view import View
from workloads import Request


@dataclass(slots=True)
class CacheLoadAware:
    """argmax 2 * prefix + 1 * queue: decode profile of the P/D sample of llm-d/llm-d-router at ebab687.

    prefix = matched blocks / prompt blocks, both of the prompt's first 16,384 tokens only (`maxPrefixTokensToMatch`);
    queue = (q_max - q) / (q_max - q_min), q the requests sent to an instance and not yet in its batch (vLLM counts a
    request whose KV is still on its way as waiting); 1 for all when equal. Ties at random.
    deploy/config/pd-epp-config.yaml; until 33f0dc4 it said 256 blocks, which are these tokens in blocks of 64, the
    least that the router hashes, and 4,096 in vLLM's of 16.
    """

    prefix: float = 2.0
    queue: float = 1.0
    match_tokens: float = 16_384

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        score = self.prefix * prefix_score(request, candidates, self.match_tokens)
        return candidates.best_at_random(score + self.queue * queue_score(candidates), view.rng)


def prefix_score(request: Request, candidates: Candidates, match_tokens: float = math.inf) -> Floats:
    """The share of the prompt's blocks that each instance holds; blocks beyond `match_tokens` are not looked at."""
    most = np.floor(match_tokens / request.block_tokens)
    held = np.minimum(candidates.cached_tokens // request.block_tokens, most)
    score: Floats = held / max(min(len(request.block_ids), most), 1)
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
