"""Round-robin over the decode instances."""

from __future__ import annotations

from scheduler.candidates import Candidates
from scheduler.view import View
from workloads import Request


class RoundRobin:
    """Each instance in turn, an infeasible one skipped.

    RoundRobinRouter of vllm-project/production-stack at a6c01db, src/vllm_router/routers/routing_logic.py.
    """

    def __init__(self) -> None:
        self._turn = 0

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        for _ in range(len(candidates)):
            at = self._turn % len(candidates)
            self._turn += 1
            if candidates.feasible[at]:
                break
        return int(candidates.decode_id[at])
