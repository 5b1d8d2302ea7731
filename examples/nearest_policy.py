"""A policy of your own: the nearest decode instance that is not too full.

cd examples && netkv run --world analytic --policy nearest_policy:Nearest --out ../results/nearest
"""

from scheduler import Candidates, View
from workloads import Request


class Nearest:
    """argmin tier over the instances whose KV memory is less than `limit` in use; the emptiest one where all are."""

    reads_telemetry = False

    def __init__(self, limit: float = 0.8) -> None:
        self.limit = limit

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        has_memory = candidates.kv_use < self.limit  # an array of shape [D]
        if not (has_memory & candidates.feasible).any():
            return candidates.best(candidates.kv_use)
        return candidates.best(candidates.tier + 10 * ~has_memory)
