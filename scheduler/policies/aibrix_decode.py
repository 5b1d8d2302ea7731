"""AIBrix's choice of a decode pod in its P/D router."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.candidates import Candidates
from scheduler.view import View
from workloads import Request


@dataclass(slots=True)
class AibrixDecode:
    """argmin (w_run * r / r_max + w_thr * (1 - thr / thr_max)) / (free / free_max), both weights 1: AIBrix
    pd/decode_scorer.go; ties at random.

    r running requests, thr tokens generated a second (here r / step time), free the share of KV memory left; the maxima
    are over the pods. Where a maximum is 0 we take 1 for it, and a pod without free memory comes last.
    """

    running: float = 1.0
    throughput: float = 1.0

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        running = candidates.running
        with np.errstate(divide="ignore", invalid="ignore"):
            generated = np.where(running > 0, running / candidates.first_step_s, 0.0)
        free = np.maximum(1 - candidates.kv_use, 1e-9)
        load = self.running * running / max(running.max(), 1)
        idleness = self.throughput * (1 - generated / (generated.max() or 1.0))
        return candidates.best_at_random(-(load + idleness) / (free / free.max()), view.rng)
