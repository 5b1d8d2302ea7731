"""SGLang's cache-aware router."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.candidates import Candidates
from scheduler.policies.cla import prefix_score
from scheduler.view import View
from workloads import Request


@dataclass(slots=True)
class SglangCacheAware:
    """If loads are uneven, argmin load; else the best prefix match if it is good enough; else argmin load.

    Uneven: max - min > abs and max > rel * min. Good enough: matched / prompt > threshold. sgl-project/sglang at
    053b63f, sgl-model-gateway/src/policies/cache_aware.rs, with the values of its launcher, threshold .3, abs 64, rel
    1.5 (router_args.py at 05e589a; the library's own: .5, 32, 1.1). Load is the router's count of requests not
    finished; the match is there of characters, here of blocks. Ties at random, there always to the same worker.
    sglang-router 0.3.2 and vllm-router 0.1.17, which matches tokens, chose what this may choose in 2,000 of 2,000 each
    (tests/optional/routers/test_http_routers.py).
    """

    threshold: float = 0.3
    abs: float = 64
    rel: float = 1.5

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        load = candidates.outstanding
        most, least = load[candidates.feasible].max(), load[candidates.feasible].min()
        uneven = most - least > self.abs and most > self.rel * least
        match = prefix_score(request, candidates)
        if not uneven and match[candidates.feasible].max() > self.threshold:
            return candidates.best_at_random(match, view.rng)
        return candidates.best_at_random(-load, view.rng)
