"""The cost of the paper's own steps, as third parties describe it; ours are `netkv_static` and `netkv_full`.

The paper (arXiv 2606.03910v1) itself is known here by its tables and plots only. The terms are those of a summary of it
and of code that re-implements it; where both are silent, the choice is ours and said beside it.
"""

from __future__ import annotations

import numpy as np

from scheduler.arrays import Floats
from scheduler.candidates import Candidates
from scheduler.cost_terms import CostTerms
from scheduler.view import View
from workloads import Request

MOST_CONGESTION = 0.99
"""Congestion counts as no more than this, so that a full tier has a finite cost. Ours."""


def paper_cost_terms(request: Request, candidates: Candidates, view: View, effective_Bps: Floats) -> CostTerms:
    """The terms of latency + s (1 - hit) / B_eff + queue + first step, each shape [D], seconds.

    s (1 - hit): KV bytes of the tokens that an instance has not cached. queue = max(0, waiting - (batch_max - running))
    t_iter, where what was sent since the load was looked at waits, too. first step = t_iter (1 + running / batch_max);
    of the code only, the summary just names it. t_iter: a decode step with one request, of which neither says more.
    """
    free_slots = view.batch_slots - candidates.running
    queue_s = np.maximum(0, candidates.waiting + candidates.sent_since - free_slots) * view.iteration_s
    first_step_s = view.iteration_s * (1 + candidates.running / view.batch_slots)
    transfer_s = view.kv_bytes(request, candidates) / effective_Bps
    return CostTerms(view.latency_s(candidates), transfer_s, queue_s, first_step_s)
