"""One decision explained: what each instance was predicted to cost, what it would have cost, and the regret."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.explaining.rebuilding import Rebuilt, rebuild
from experiments.explaining.recorded_decisions import DecidedRun, read_decisions
from experiments.explaining.watched_policy import Better, SeenDecision
from experiments.running import StoreError
from scheduler import CostTerms
from simulator import Asked, Destination, TrueCost, true_costs

SAMPLED_SHARE = 0.05

SAME_MS = 1e-3
"""Times that differ by less are the same: a microsecond."""

SAME_FIGURE = 1e-9
"""Costs and scores that differ by less are a tie, as they are for policies."""


@dataclass(frozen=True)
class CandidateCost:
    """One instance at one decision; times in milliseconds of the real system.

    figure: what the policy compared, NaN where it compared nothing. load: requests sent to it and not finished. The
    predicted parts are those of the policy's cost model (`Explanation.own_terms`). The true ones are those of the fluid
    model, the transfer with its latency.
    """

    decode_id: int
    tier: int
    cached_tokens: int
    load: int
    kv_bytes: int
    figure: float
    latency_ms: float
    transfer_ms: float
    admission_ms: float
    first_step_ms: float
    true_transfer_ms: float
    true_admission_ms: float
    true_first_step_ms: float

    @property
    def predicted_ms(self) -> float:
        return self.latency_ms + self.transfer_ms + self.admission_ms + self.first_step_ms

    @property
    def true_ms(self) -> float:
        return self.true_transfer_ms + self.true_admission_ms + self.true_first_step_ms


@dataclass(frozen=True)
class Explanation:
    """One decision of a run.

    candidates: those that could hold the request, by instance. own_terms: the policy has a cost model, and the
    predictions are its own; otherwise they are what the view of the network implies. rebuilt_id: what the policy
    chooses when it decides again, None when it turns the request away. The measured times are those of the run.
    recorded_kv_transfer_ms and rebuilt_kv_transfer_ms: the prediction that the run has on record, and the same rebuilt.
    telemetry_off_s: how far in time the telemetry of the rebuilt decision is from that of the run. reason: what the
    policy itself said of its choice, "" for most.
    """

    run: str
    world: str
    policy: str
    request_id: int
    decided_s: float
    prefill_id: int
    chosen_id: int
    input_length: int
    candidates: tuple[CandidateCost, ...]
    own_terms: bool
    better: Better
    rebuilt_id: int | None
    snapshot_age_s: float
    fallback: str
    telemetry_off_s: float
    recorded_kv_transfer_ms: float
    rebuilt_kv_transfer_ms: float
    measured_kv_transfer_ms: float
    measured_ttft_ms: float
    reason: str = ""

    @property
    def chosen(self) -> CandidateCost:
        """The instance that the request was sent to."""
        return next(one for one in self.candidates if one.decode_id == self.chosen_id)

    @property
    def best(self) -> CandidateCost:
        """The instance of least true cost; the one chosen where it costs no more."""
        least_ms = min(one.true_ms for one in self.candidates)
        if self.chosen.true_ms <= least_ms + SAME_MS:
            return self.chosen
        return next(one for one in self.candidates if one.true_ms == least_ms)

    @property
    def regret_ms(self) -> float:
        """True cost of the instance chosen, less that of the best one; never below 0."""
        return self.chosen.true_ms - self.best.true_ms

    @property
    def ranked(self) -> bool:
        """Whether the policy compared the instances by a figure."""
        return not math.isnan(self.chosen.figure)

    @property
    def runner_up(self) -> CandidateCost | None:
        """The next best by what the policy compared, after the instance chosen; None where there is none."""
        others = [one for one in self.candidates if one.decode_id != self.chosen_id]
        if not others or not self.ranked:
            return None
        sign = 1 if self.better == "lower" else -1
        return min(others, key=lambda one: (sign * one.figure, one.tier, one.load, one.decode_id))

    @property
    def lead(self) -> float:
        """By how much the instance chosen is better than the runner-up, in what was compared; NaN without one."""
        other = self.runner_up
        if other is None:
            return math.nan
        return (other.figure - self.chosen.figure) * (1 if self.better == "lower" else -1)

    @property
    def same_choice(self) -> bool:
        """Whether the rebuilt decision is the recorded one."""
        return self.rebuilt_id == self.chosen_id

    @property
    def prediction_off_ms(self) -> float:
        """The rebuilt prediction of the KV transfer less the recorded one."""
        return self.rebuilt_kv_transfer_ms - self.recorded_kv_transfer_ms


def explain_requests(folder: Path, requests: Sequence[int] | None, share: float = SAMPLED_SHARE) -> list[Explanation]:
    """Explain the decisions of a run for these requests, or for `sampled_requests`, in the order of the decisions.

    StoreError when the folder is no run, or has no decision for one of them.
    """
    run = read_decisions(folder)
    wanted = sampled_requests(run, share) if requests is None else list(requests)
    for request_id in wanted:
        _check_decided(run, request_id)
    rebuilt = rebuild(run, frozenset(wanted))
    if missing := sorted(set(wanted) - set(rebuilt.seen)):
        raise StoreError(f"{folder}: the decision of request {missing[0]} cannot be rebuilt: made by other code")
    choice, transport = run.network()
    asked = [Asked(number, _destinations(run, rebuilt.seen[number])) for number in wanted]
    costs = true_costs(run.fabric, choice, transport, run.decode_side, run.sent(), run.background(), asked)
    return [_explanation(run, rebuilt, number, true) for number, true in costs]


def sampled_requests(run: DecidedRun, share: float = SAMPLED_SHARE) -> list[int]:
    """A share of the requests decided, at least one, drawn from the run's seed: the same every time."""
    decided = np.sort(run.decisions["request_id"].to_numpy(dtype=np.int64))
    count = min(max(round(share * len(decided)), 1), len(decided))
    drawn: list[int] = run.spec.scenario.rng("explain").choice(decided, count, replace=False).tolist()
    return sorted(drawn)


def _check_decided(run: DecidedRun, request_id: int) -> None:
    if request_id in run.decision:
        return
    rows = run.requests[run.requests["request_id"] == request_id]
    if rows.empty:
        last = int(run.requests["request_id"].max())
        raise StoreError(f"{run.folder}: has no request {request_id}; they are numbered from 0 to {last}")
    reason = str(rows["error"].iloc[0]) or "it was never decided"
    raise StoreError(f"{run.folder}: request {request_id} was sent nowhere: {reason}")


def _destinations(run: DecidedRun, seen: SeenDecision) -> list[Destination]:
    able = seen.candidates.feasible
    ids, sizes = seen.candidates.decode_id[able].tolist(), np.round(seen.kv_bytes[able]).tolist()
    recorded = run.decision[seen.request_id]
    return [
        Destination(number, (float(recorded["kv_bytes"]) if number == recorded["decode_id"] else size_B) * run.frames)
        for number, size_B in zip(ids, sizes, strict=True)
    ]


def _explanation(run: DecidedRun, rebuilt: Rebuilt, number: int, true: dict[int, TrueCost]) -> Explanation:
    seen = rebuilt.seen[number]
    row = run.decision[number]
    at = int(seen.candidates.decode_id.searchsorted(row["decode_id"]))
    return Explanation(
        run=run.folder.name or str(run.folder),
        world=run.spec.world,
        policy=run.spec.policy,
        request_id=number,
        decided_s=float(row["decided_s"]),
        prefill_id=int(row["prefill_id"]),
        chosen_id=int(row["decode_id"]),
        input_length=int(row["input_length"]),
        candidates=tuple(
            _candidate(seen, place, true[int(decode_id)])
            for place, decode_id in enumerate(seen.candidates.decode_id)
            if seen.candidates.feasible[place]
        ),
        own_terms=seen.own_terms,
        better=seen.better,
        rebuilt_id=seen.chosen,
        snapshot_age_s=float(row["oracle_age_ms"]) / 1e3,
        fallback=str(row.get("fallback", "")),
        telemetry_off_s=rebuilt.telemetry_off_s.get(number, 0.0),
        recorded_kv_transfer_ms=float(row["predicted_kv_transfer_ms"]),
        rebuilt_kv_transfer_ms=float(seen.expected_kv_transfer_s[at]) * 1e3,
        measured_kv_transfer_ms=float(row["kv_transfer_ms"]),
        measured_ttft_ms=float(row["ttft_ms"]),
        reason=reason if isinstance(reason := row.get("reason"), str) else "",
    )


def _candidate(seen: SeenDecision, at: int, true: TrueCost) -> CandidateCost:
    candidates = seen.candidates
    latency, transfer, admission, first_step = (float(term[at]) * 1e3 for term in CostTerms(*seen.terms))
    return CandidateCost(
        decode_id=int(candidates.decode_id[at]),
        tier=int(candidates.tier[at]),
        cached_tokens=int(candidates.cached_tokens[at]),
        load=int(candidates.load[at]),
        kv_bytes=round(float(seen.kv_bytes[at])),
        figure=math.nan if seen.figures is None else float(seen.figures[at]),
        latency_ms=latency,
        transfer_ms=transfer,
        admission_ms=admission,
        first_step_ms=first_step,
        true_transfer_ms=true.transfer_s * 1e3,
        true_admission_ms=true.admission_s * 1e3,
        true_first_step_ms=true.first_step_s * 1e3,
    )
