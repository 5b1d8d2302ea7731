"""NetKV-Fresh: telemetry counts for as much as its age leaves of it. Ours; the paper has nothing like it."""

from __future__ import annotations

import numpy as np

from scheduler.arrays import Floats
from scheduler.candidates import Candidates
from scheduler.cost_terms import CostTerms
from scheduler.link_history import LinkHistory
from scheduler.view import View
from workloads import Request


class NetKVFresh:
    """The instance that should emit the first token soonest, by a snapshot that is believed less as it gets older.

    cost(p, d) = latency(p, d) + w bytes(r, d) / available(p, d) + (1 - w) bytes(r, d) / usual(p, d)
                 + admission(d) + first_step(d)
    w = exp(-age / tau)

    `available` is that of NetKV-Full. `usual` is the bandwidth of NetKV-Static, `nominal`, times the part of an idle
    path that the mean slowdown of its links leaves. That mean and tau come from the snapshots held at this policy's
    decisions (`LinkHistory`). Until it has seen two, w = 0. Without a snapshot the policy falls back to NetKV-Static.
    """

    def __init__(self) -> None:
        self._history: LinkHistory | None = None

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        return candidates.best(self.cost_terms(request, candidates, view).total_s)

    def cost_terms(self, request: Request, candidates: Candidates, view: View) -> CostTerms:
        sending_s = view.kv_bytes(request, candidates) * self._seconds_per_byte(candidates, view)
        transfer_s = view.moving_s(request, sending_s)
        return CostTerms(view.latency_s(candidates), transfer_s, candidates.admission_wait_s, candidates.first_step_s)

    def _seconds_per_byte(self, candidates: Candidates, view: View) -> Floats:
        """w / available + (1 - w) / usual, shape [D]."""
        others_Bps = view.others_Bps
        if view.sample is None or others_Bps is None:
            return 1 / view.nominal_Bps(candidates)
        if self._history is None:
            self._history = LinkHistory(view.capacity_Bps, view.link_level)
        history = self._history
        history.see(view.sample.sampled_s, others_Bps)
        idle_Bps = view.available_beside_Bps(candidates, np.zeros_like(others_Bps))
        part = view.available_beside_Bps(candidates, history.mean_others_Bps) / idle_Bps
        weight = history.weight(view.age_s)[candidates.tier]
        return weight / view.available_Bps(candidates) + (1 - weight) / (view.nominal_Bps(candidates) * part)
