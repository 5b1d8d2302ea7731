"""llm-d's P/D sample with static topology affinity."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scheduler.candidates import Candidates
from scheduler.policies.cla import prefix_score, queue_score
from scheduler.view import View
from workloads import Request


@dataclass(slots=True)
class LlmdTopology:
    """argmax 2 * prefix + 1 * queue + 1 * affinity, on the same host if there is any: llm-d/llm-d-router at ebab687.

    Filter, scorer and all three weights are those of deploy/config/pd-topology-epp-config.yaml; affinity: same host
    1.00, rack .20, zone .05, region .02 (pkg/epp/framework/plugins/scheduling/scorer/topologyaffinity/scorer.go). The
    filter keeps instances on the same host, and all where none is (filter/topologyaffinity, `minAffinity: host`).
    prefix and queue as in `cla`. There decode is chosen first and this profile then finds the prefill instance; here
    prefill is first, so it finds the decode instance. Ours: host = tier 0, rack = 1, zone = pod = 2, region = 3. Ties
    at random.
    """

    prefix: float = 2.0
    queue: float = 1.0
    affinity: float = 1.0
    match_tokens: float = 16_384
    host: float = 1.0
    rack: float = 0.20
    zone: float = 0.05
    region: float = 0.02

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        by_tier = np.array([self.host, self.rack, self.zone, self.region])
        score = (
            self.prefix * prefix_score(request, candidates, self.match_tokens)
            + self.queue * queue_score(candidates)
            + self.affinity * by_tier[candidates.tier]
        )
        beside = candidates.feasible & (candidates.tier == 0)
        if beside.any():
            candidates = replace(candidates, feasible=beside)
        return candidates.best_at_random(score, view.rng)
