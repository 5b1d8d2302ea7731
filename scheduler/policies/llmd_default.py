"""llm-d's router with its default scorers."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.candidates import Candidates
from scheduler.policies.cla import memory_score, prefix_score, queue_score
from scheduler.view import View
from workloads import Request


@dataclass(slots=True)
class LlmdDefault:
    """argmax 2 * queue + 2 * (1 - u) + 3 * prefix: defaults of llm-d/llm-d-router at ebab687; ties at random.

    u is the KV memory in use, 0-1 (ours: booked); prefix and queue as in `cla`, but of the first 131,072 tokens, what
    the matcher does when nobody configures it. pkg/epp/config/loader/defaults.go, and README.md in
    pkg/epp/framework/plugins/requestcontrol/dataproducer/approximateprefix.
    """

    queue: float = 2.0
    memory: float = 2.0
    prefix: float = 3.0
    match_tokens: float = 131_072

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        score = (
            self.queue * queue_score(candidates)
            + self.memory * memory_score(candidates)
            + self.prefix * prefix_score(request, candidates, self.match_tokens)
        )
        return candidates.best_at_random(score, view.rng)
