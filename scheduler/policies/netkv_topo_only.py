"""NetKV-Topo-Only, the first step of the ablation: the distance tier alone. Our own form.

The formula is ours, built from what the abstract of arXiv 2606.03910 says of this step. `paper_static` is the paper's
first step as third parties describe it.
"""

from __future__ import annotations

from scheduler.candidates import Candidates
from scheduler.view import View
from workloads import Request


class NetKVTopoOnly:
    """The nearest tier, then the least load: cost(p, d) = tier(p, d)."""

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        return candidates.best(candidates.tier)
