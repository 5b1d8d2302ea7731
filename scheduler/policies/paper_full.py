"""The paper's last step, which it calls NetKV-Full: the tier's congestion as the oracle tells it comes in."""

from __future__ import annotations

import numpy as np

from scheduler.candidates import Candidates
from scheduler.cost_terms import CostTerms
from scheduler.policies.paper_cost import MOST_CONGESTION, paper_cost_terms
from scheduler.view import View
from workloads import Request


class PaperFull:
    """argmin s (1 - hit) / B_eff + latency + queue + first step, with B_eff = B_tier (1 - c_tier) / (1 + n).

    n: our own transfers in flight from that prefill instance in that tier. c_tier: mean utilisation of the links of the
    tier in the telemetry snapshot, our own transfers included; 0 without a snapshot. `paper_cost` has the other terms.
    """

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        return candidates.best(self.cost_terms(request, candidates, view).total_s)

    def cost_terms(self, request: Request, candidates: Candidates, view: View) -> CostTerms:
        congestion = np.minimum(view.tier_congestion(candidates), MOST_CONGESTION)
        effective_Bps = view.tier_Bps(candidates) * (1 - congestion) / (1 + view.own_in_tier(candidates))
        return paper_cost_terms(request, candidates, view, effective_Bps)
