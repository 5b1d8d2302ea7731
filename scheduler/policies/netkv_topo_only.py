"""NetKV-Topo-Only, the first step of the ablation: the distance tier alone. Our reconstruction.

The paper (arXiv 2606.03910) is known to this project by its abstract only: none of its equations is, so this formula is
ours, built from what the abstract says of this step.
"""

from __future__ import annotations

from scheduler.candidates import Candidates
from scheduler.view import View
from workloads import Request


class NetKVTopoOnly:
    """The nearest tier, then the least load: cost(p, d) = tier(p, d)."""

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        return candidates.best(candidates.tier)
