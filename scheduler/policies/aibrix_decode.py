"""AIBrix's choice of a decode pod in its P/D router."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.candidates import Candidates
from scheduler.view import View
from workloads import Request


@dataclass(slots=True)
class AibrixDecode:
    """argmin (w_run * r / r_max + w_thr * (1 - thr / thr_max)) / (free / free_max): vllm-project/aibrix at e3e10f9.

    r: requests that the gateway counts as running, with those it has routed and that are still pending; thr: tokens
    generated a second (here those in the batch / step time); free: the share of KV memory left, in whole percent and
    0.1 at least (ours: not booked). The maxima are over the pods, 1 at least; both weights are 1. Before that, where r
    is `spread` apart the least r is taken, then where thr is more than `throughput_spread` apart the least thr. A third
    check needs a rate of departures over a minute, which nobody reports here; it is skipped there, too, where one is
    missing. Ties at random. pd/decode_scorer.go and pd_disaggregation.go in pkg/plugins/gateway/algorithms.
    """

    running: float = 1.0
    throughput: float = 1.0
    spread: float = 16.0
    throughput_spread: float = 2048.0

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        able = candidates.feasible
        requests = candidates.outstanding
        if np.ptp(requests[able]) >= self.spread:
            return candidates.best_at_random(-requests, view.rng)
        generated = candidates.running / np.where(candidates.running > 0, candidates.first_step_s, 1.0)
        if np.ptp(generated[able]) > self.throughput_spread:
            return candidates.best_at_random(-generated, view.rng)
        free = np.maximum(np.rint(100 * (1 - candidates.kv_use)), 0.1)
        load = self.running * requests / max(requests[able].max(), 1)
        idleness = self.throughput * (1 - generated / max(generated[able].max(), 1))
        return candidates.best_at_random(-(load + idleness) / (free / max(free[able].max(), 1)), view.rng)
