"""Join the shortest queue."""

from __future__ import annotations

from scheduler.candidates import Candidates
from scheduler.view import View
from workloads import Request


class LeastLoaded:
    """argmin outstanding requests: JSQScheduler of Mutinifni/splitwise-sim at 8f99e7d, scheduler.py.

    Ties at random, there to the first.
    """

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        return candidates.best_at_random(-candidates.load, view.rng)
