"""NetKV-Static, the second step of the ablation: nominal bandwidth, no telemetry. Our own form.

The formula is ours, built from what the abstract of arXiv 2606.03910 says of this step. `paper_self_contention` is its
relative among the paper's own steps, as third parties describe them.
"""

from __future__ import annotations

from scheduler.candidates import Candidates
from scheduler.cost_terms import CostTerms
from scheduler.view import View
from workloads import Request


class NetKVStatic:
    """Nominal bandwidth and latency of the path's tier, without telemetry.

    cost(p, d) = latency(p, d) + bytes(r, d) / nominal(p, d) + admission(d) + first_step(d)

    `nominal` is the tier's bandwidth shared with our own transfers in flight to and from the same ends.
    """

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        return candidates.best(self.cost_terms(request, candidates, view).total_s)

    def cost_terms(self, request: Request, candidates: Candidates, view: View) -> CostTerms:
        transfer_s = view.moving_s(request, view.kv_bytes(request, candidates) / view.nominal_Bps(candidates))
        return CostTerms(view.latency_s(candidates), transfer_s, candidates.admission_wait_s, candidates.first_step_s)
