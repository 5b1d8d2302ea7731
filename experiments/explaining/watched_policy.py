"""A policy that is watched while it decides again: what it was shown, by which figures it compared, what it chose."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scheduler import HOOKS, Candidates, CostModel, CostTerms, Policy, RejectedError, View
from workloads import Request

Floats = NDArray[np.float64]
Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class SeenDecision:
    """One decision, rebuilt. Arrays have shape [D] in the order of `candidates`.

    chosen: the instance that the policy chooses now; None when it turns the request away. terms: the policy's own cost
    model (`own_terms`), or for a policy that has none the time by the view's bandwidth. figures: what it compared, None
    where it compared nothing; `better` says which is. expected_kv_transfer_s: what a run records as its prediction.
    age_s: of the telemetry snapshot, infinite without one.
    """

    request_id: int
    chosen: int | None
    candidates: Candidates
    kv_bytes: Floats
    terms: CostTerms
    own_terms: bool
    figures: Floats | None
    better: Better
    expected_kv_transfer_s: Floats
    age_s: float


@dataclass(frozen=True, slots=True)
class WatchedCandidates(Candidates):
    """Candidates that note the figures by which they are compared."""

    compared: list[tuple[Better, Floats]] = field(default_factory=list, compare=False)

    def best(self, cost: Floats | NDArray[np.int64]) -> int:
        self.compared.append(("lower", np.array(cost, dtype=np.float64)))
        return Candidates.best(self, cost)

    def best_at_random(self, score: Floats | NDArray[np.int64], rng: np.random.Generator) -> int:
        self.compared.append(("higher", np.array(score, dtype=np.float64)))
        return Candidates.best_at_random(self, score, rng)


class WatchedPolicy:
    """Lets `policy` decide, notes in `seen` what it did for the requests `wanted`, and answers as `recorded` says.

    So the state that later decisions meet is that of the run, whatever is chosen now. `other`: how many decisions came
    out differently from the record.
    """

    def __init__(self, policy: Policy, recorded: Mapping[int, int], wanted: Container[int]) -> None:
        self._policy = policy
        self._recorded = recorded
        self._wanted = wanted
        self.seen: dict[int, SeenDecision] = {}
        self.other = 0
        for step in HOOKS:  # its books are those of the record, too
            if hasattr(policy, step):
                setattr(self, step, getattr(policy, step))

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        """The recorded instance; the policy's own choice, or RejectedError, for a request that is not on record."""
        known = self._recorded.get(request.request_id)
        watched = WatchedCandidates(**{one.name: getattr(candidates, one.name) for one in fields(candidates)})
        chosen: int | None
        try:
            chosen = int(self._policy.select(request, watched, view))
        except RejectedError:
            if known is None:
                raise
            chosen = None
        self.other += known is not None and chosen != known
        if request.request_id in self._wanted:
            self.seen[request.request_id] = self._note(request, watched, view, chosen)
        if known is not None:
            return known
        assert chosen is not None
        return chosen

    def _note(self, request: Request, candidates: WatchedCandidates, view: View, chosen: int | None) -> SeenDecision:
        kv_bytes = view.kv_bytes(request, candidates)
        by_view_s = kv_bytes / (view.available_Bps(candidates) * view.achieved(candidates))
        latency_s = view.latency_s(candidates)
        own_terms = isinstance(self._policy, CostModel)
        if isinstance(self._policy, CostModel):
            terms = self._policy.cost_terms(request, candidates, view)
        else:
            terms = CostTerms(latency_s, by_view_s, candidates.admission_wait_s, candidates.first_step_s)
        better: Better = "lower"
        figures: Floats | None = None
        if candidates.compared:
            better, figures = candidates.compared[-1]
        return SeenDecision(
            request_id=request.request_id,
            chosen=chosen,
            candidates=_kept(candidates),
            kv_bytes=kv_bytes,
            terms=CostTerms(*(np.array(term, dtype=np.float64) for term in terms)),
            own_terms=own_terms,
            figures=figures,
            better=better,
            expected_kv_transfer_s=np.where(kv_bytes > 0, latency_s + by_view_s, 0.0),
            age_s=float(view.age_s),
        )


def _kept(candidates: Candidates) -> Candidates:
    """A copy that does not change when the dispatcher's own counts do."""
    kept: dict[str, Any] = {one.name: getattr(candidates, one.name) for one in fields(Candidates)}
    copied = {name: np.copy(part) if isinstance(part, np.ndarray) else part for name, part in kept.items()}
    return Candidates(**copied)  # type: ignore[arg-type]
