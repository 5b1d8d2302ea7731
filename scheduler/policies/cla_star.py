"""CLA*: CLA with weights found by grid search. Ours, standing for the paper's tuned cache+load-aware scheduler."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.candidates import Candidates
from scheduler.policies.cla import memory_score, prefix_score, queue_score
from scheduler.view import View
from workloads import Request


@dataclass(slots=True)
class CacheLoadAwareTuned:
    """argmax prefix + queue + memory, each weighted; ties at random.

    prefix and queue as in `cla`, memory = 1 - u. `netkv tune` finds weights for a scenario on requests that its
    evaluation does not use. These defaults are the best for the default scenario: `netkv tune --requests 2000 --seeds
    3`, 61 points, requests 2000 to 3999; the ranking is in docs/tune/cla_star.json.
    """

    prefix: float = 4.0
    queue: float = 0.5
    memory: float = 0.5

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        score = (
            self.prefix * prefix_score(request, candidates)
            + self.queue * queue_score(candidates)
            + self.memory * memory_score(candidates)
        )
        return candidates.best_at_random(score, view.rng)
