"""llm-d's P/D sample with its static topology affinity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.candidates import Candidates
from scheduler.policies.cla import prefix_score, queue_score
from scheduler.view import View
from workloads import Request


@dataclass(slots=True)
class LlmdTopology:
    """argmax 2 * prefix + 1 * queue + 1 * affinity; ties at random.

    affinity to the prefill instance: same host 1.00, rack .20, zone .05, region .02, as published in llm-d-router
    scorer/topologyaffinity/scorer.go. Which tier is which is ours: host = tier 0, rack = 1, zone = pod = 2, region = 3.
    The weight of the affinity is not published with it: 1 is ours.
    """

    prefix: float = 2.0
    queue: float = 1.0
    affinity: float = 1.0
    host: float = 1.0
    rack: float = 0.20
    zone: float = 0.05
    region: float = 0.02

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        by_tier = np.array([self.host, self.rack, self.zone, self.region])
        score = (
            self.prefix * prefix_score(request, candidates)
            + self.queue * queue_score(candidates)
            + self.affinity * by_tier[candidates.tier]
        )
        return candidates.best_at_random(score, view.rng)
