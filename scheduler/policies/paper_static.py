"""The paper's first step, Static: bandwidth by tier, and nothing of what moves."""

from __future__ import annotations

from scheduler.candidates import Candidates
from scheduler.cost_terms import CostTerms
from scheduler.policies.paper_cost import paper_cost_terms
from scheduler.view import View
from workloads import Request


class PaperStatic:
    """argmin s (1 - hit) / B_eff + latency + queue + first step, with B_eff = B_tier.

    `paper_cost` has the terms and where they are from. A request of many bytes sees a longer way, but not a busy one.
    """

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        return candidates.best(self.cost_terms(request, candidates, view).total_s)

    def cost_terms(self, request: Request, candidates: Candidates, view: View) -> CostTerms:
        effective_Bps = view.tier_Bps(candidates)
        return paper_cost_terms(request, candidates, view, effective_Bps)
