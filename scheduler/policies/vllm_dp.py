"""vLLM's balancer of data-parallel ranks."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.candidates import Candidates
from scheduler.view import View
from workloads import Request


@dataclass(slots=True)
class VllmDataParallel:
    """argmin 4 q + r: vLLM as quoted by BLIS docs/guide/routing.md; ties at random.

    q requests waiting, r running. There the statistics are up to 100 ms old: `oracle.load_refresh_s=0.1`.
    """

    waiting: float = 4.0
    running: float = 1.0

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        return candidates.best_at_random(
            -(self.waiting * candidates.waiting + self.running * candidates.running), view.rng
        )
