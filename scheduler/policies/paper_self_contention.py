"""The paper's second step, Self-contention: bandwidth by tier, shared with our own transfers from the same source."""

from __future__ import annotations

from scheduler.candidates import Candidates
from scheduler.cost_terms import CostTerms
from scheduler.policies.paper_cost import paper_cost_terms
from scheduler.view import View
from workloads import Request


class PaperSelfContention:
    """argmin s (1 - hit) / B_eff + latency + queue + first step, with B_eff = B_tier / (1 + n).

    n: our own transfers in flight from that prefill instance in that tier. `paper_cost` has the other terms.
    """

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        return candidates.best(self.cost_terms(request, candidates, view).total_s)

    def cost_terms(self, request: Request, candidates: Candidates, view: View) -> CostTerms:
        effective_Bps = view.tier_Bps(candidates) / (1 + view.own_in_tier(candidates))
        return paper_cost_terms(request, candidates, view, effective_Bps)
