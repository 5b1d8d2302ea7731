"""A uniform random choice."""

from __future__ import annotations

from scheduler.candidates import Candidates
from scheduler.view import View
from workloads import Request


class RandomChoice:
    """A uniform draw among the feasible instances, from the run's own random stream."""

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        able = candidates.decode_id[candidates.feasible]
        return int(able[view.rng.integers(len(able))])
