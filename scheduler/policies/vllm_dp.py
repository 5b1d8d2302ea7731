"""vLLM's balancer of data-parallel ranks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scheduler.candidates import TIE, Candidates
from scheduler.view import View
from workloads import Request


@dataclass(slots=True)
class VllmDataParallel:
    """argmin max(n, q + r) + 6 q max(0, u - 1/2): vllm-project/vllm at 00080ee, vllm/v1/engine/core_client.py.

    n: own requests not finished; q waiting, r running, u KV memory in use (ours: booked), by the last statistics, which
    there are up to 100 ms old (`oracle.load_refresh_s=0.1`). Own dispatches since count as waiting (there until the
    next statistics, here not beyond their end). Of equals the first from a place that moves on by one with each
    decision. One front end; until pull request 49204 it was argmin 4 q + r.
    """

    pressure: float = 6.0
    threshold: float = 0.5
    _start: int = field(default=0, init=False)

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        waiting = candidates.waiting + candidates.sent_since
        load = np.maximum(candidates.outstanding, waiting + candidates.running)
        score = load + self.pressure * waiting * np.maximum(0.0, candidates.kv_use - self.threshold)
        start, count = self._start, len(candidates)
        self._start = (start + 1) % count
        equal = np.flatnonzero(candidates.feasible & (score <= score[candidates.feasible].min() + TIE))
        return int(candidates.decode_id[equal[((equal - start) % count).argmin()]])
