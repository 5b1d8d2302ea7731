"""The paper's second step, Self-contention: bandwidth by tier, shared with our own transfers from the same source."""

from __future__ import annotations

from scheduler.candidates import Candidates
from scheduler.policies.paper_cost import paper_cost_s
from scheduler.view import View
from workloads import Request


class PaperSelfContention:
    """argmin s (1 - hit) / B_eff + latency + queue + first step, with B_eff = B_tier / (1 + n).

    n: our own transfers in flight from that prefill instance in that tier. `paper_cost` has the other terms.
    """

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        effective_Bps = view.tier_Bps(candidates) / (1 + view.own_in_tier(candidates))
        return candidates.best(paper_cost_s(request, candidates, view, effective_Bps))
