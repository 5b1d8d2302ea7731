"""NetKV-Full, the last step of the ablation: the bandwidth left on the path by telemetry. Our own form.

The formula is ours, built from what the abstract of arXiv 2606.03910 says of this step. `paper_full` is the paper's
own, as third parties describe it: it sees one congestion a tier, and this one every link.
"""

from __future__ import annotations

from scheduler.candidates import Candidates
from scheduler.cost_terms import CostTerms
from scheduler.view import View
from workloads import Request


class NetKVFull:
    """The instance that should emit the first token soonest.

    cost(p, d) = latency(p, d) + bytes(r, d) / (available(p, d) achieved(p, d)) + admission(d) + first_step(d)

    `available` is the bandwidth that the oracle's last sample leaves on the path, shared with our own transfers in
    flight, never less than a fair share; `achieved` the part of it that earlier transfers of that tier got. Without a
    sample the first is `nominal` and the second 1: the policy falls back to NetKV-Static.
    """

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        return candidates.best(self.cost_terms(request, candidates, view).total_s)

    def cost_terms(self, request: Request, candidates: Candidates, view: View) -> CostTerms:
        rate_Bps = view.available_Bps(candidates) * view.achieved(candidates)
        transfer_s = view.moving_s(request, view.kv_bytes(request, candidates) / rate_Bps)
        return CostTerms(view.latency_s(candidates), transfer_s, candidates.admission_wait_s, candidates.first_step_s)
