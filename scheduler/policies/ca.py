"""CA: cache-aware only, blind to load and network. Ours, standing for the paper's CA."""

from __future__ import annotations

from scheduler.candidates import Candidates
from scheduler.view import View
from workloads import Request


class CacheAware:
    """argmax matched prefix; ties to the least outstanding requests, then at random."""

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        load = candidates.load
        return candidates.best_at_random(candidates.cached_tokens - load / (load.max() + 1), view.rng)
