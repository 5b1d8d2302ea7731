"""CLA: cache- and load-aware, blind to the network."""

from __future__ import annotations

import numpy as np

from scheduler.candidates import Candidates
from scheduler.view import View
from workloads import BLOCK_TOKENS, Request


class CacheLoadAware:
    """argmax 2 * prefix + 1 * queue: llm-d-router's P/D sample (deploy/config/pd-epp-config.yaml), decode profile.

    prefix = matched blocks / prompt blocks; queue = (q_max - q) / (q_max - q_min), q the requests sent to an instance
    and not yet in its batch (vLLM counts a request whose KV is still on its way as waiting); 1 for all when equal.
    Ties at random.
    """

    prefix_weight = 2.0
    queue_weight = 1.0

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        prefix = (candidates.cached_tokens // BLOCK_TOKENS) / max(len(request.block_ids), 1)
        return candidates.best_at_random(
            self.prefix_weight * prefix + self.queue_weight * queue_score(candidates), view.rng
        )


def queue_score(candidates: Candidates) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """1 for the shortest queue, 0 for the longest, linear between."""
    waiting = candidates.waiting.astype(float)
    spread = waiting.max() - waiting.min()
    return (waiting.max() - waiting) / spread if spread > 0 else np.ones(len(waiting))
