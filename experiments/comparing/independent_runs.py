"""Both worlds deciding for themselves on the same scenarios: do they rank policies alike, and where do they part?

A run of one world is paired with that of the other which has the same scenario; requests pair by their number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.analysis import CONFIDENCE, Change, paired_change, resamples, units_of
from experiments.running import RunSpec

REASONS = ("prefill instance", "prefix cache", "network or load")
"""Why a decision parted, the first that applies: the request was prefilled elsewhere, another prefix was held at the
instance chosen, or the same candidates looked different."""


@dataclass(frozen=True)
class IndependentRun:
    """One run that decided for itself: its specification and its table `requests`."""

    spec: RunSpec
    requests: pd.DataFrame


@dataclass(frozen=True)
class Pair:
    """The same scenario in both worlds."""

    emulated: IndependentRun
    analytic: IndependentRun

    @property
    def policy(self) -> str:
        return self.emulated.spec.policy

    @property
    def condition(self) -> str:
        """Everything but policy and seed: policies are ranked within a condition."""
        spec = self.emulated.spec.scenario.model_dump(mode="json", exclude={"policy", "policy_parameters", "seed"})
        return json.dumps(spec, sort_keys=True)


def pair_up(emulated: Sequence[IndependentRun], analytic: Sequence[IndependentRun]) -> list[Pair]:
    """Every emulated run with the analytic one of the same scenario, where there is one."""
    by_scenario = {run.spec.scenario.model_dump_json(): run for run in analytic}
    return [
        Pair(run, by_scenario[key]) for run in emulated if (key := run.spec.scenario.model_dump_json()) in by_scenario
    ]


def independent_report(pairs: Sequence[Pair]) -> dict[str, Any]:
    """The section `independent` of a comparison: means a pair, where decisions parted, and the ranking of policies."""
    conditions: dict[str, list[Pair]] = {}
    for pair in pairs:
        conditions.setdefault(pair.condition, []).append(pair)
    ranked = [_ranking(group) for group in conditions.values() if len({pair.policy for pair in group}) > 1]
    return {
        "runs": [_means(pair) for pair in pairs],
        "decisions": parting(pd.concat([_joined(pair) for pair in pairs])),
        "rankings": [ranking for ranking in ranked if ranking],
    }


def parting(joined: pd.DataFrame) -> dict[str, Any]:
    """How many requests were decided alike in both worlds, and the reasons of the others."""
    decided = joined[(joined["decode_id_emulated"] >= 0) & (joined["decode_id_analytic"] >= 0)]
    parted = decided[decided["decode_id_emulated"] != decided["decode_id_analytic"]]
    prefill = parted["prefill_id_emulated"] != parted["prefill_id_analytic"]
    cache = ~prefill & (parted["cached_tokens_emulated"] != parted["cached_tokens_analytic"])
    counts = (int(prefill.sum()), int(cache.sum()), int((~prefill & ~cache).sum()))
    return {
        "requests": len(decided),
        "alike": len(decided) - len(parted),
        "same_tier": int((decided["tier_emulated"] == decided["tier_analytic"]).sum()),
        "parted_by": dict(zip(REASONS, counts, strict=True)),
    }


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float:
    """Kendall's tau-b of two lists of figures (Biometrika 33, 1945); NaN when either is all ties."""
    signs = [(np.sign(one[b] - one[a]), np.sign(other[b] - other[a])) for a, b in combinations(range(len(one)), 2)]
    untied = sum(a != 0 for a, _ in signs) * sum(b != 0 for _, b in signs)
    return float(sum(a * b for a, b in signs) / np.sqrt(untied)) if untied else float("nan")


def _ranking(group: Sequence[Pair]) -> dict[str, Any] | None:
    """Kendall's tau of mean TTFT over the policies of one condition, and the gains against the first of them.

    The interval of tau is a percentile bootstrap over seeds or blocks of requests (`units_of`). None where no request
    was completed by every policy in both worlds.
    """
    frames: dict[str, list[pd.DataFrame]] = {}
    for pair in group:
        frames.setdefault(pair.policy, []).append(_joined(pair).assign(seed=pair.emulated.spec.seed))
    tables = {policy: pd.concat(parts) for policy, parts in frames.items()}
    common = _common(list(tables.values()))
    if not len(common):
        return None
    units = units_of(common.to_frame(index=False))
    emulated, analytic = (
        np.array([_sums(table.loc[common, f"ttft_ms_{world}"], units) for table in _indexed(tables)])
        for world in ("emulated", "analytic")
    )
    taus = np.array([kendall_tau(emulated @ often, analytic @ often) for often in resamples(emulated.shape[1])])
    tail = 100 * (1 - CONFIDENCE) / 2
    known = taus[~np.isnan(taus)]
    low, high = np.percentile(known, [tail, 100 - tail]) if len(known) else (float("nan"), float("nan"))
    means = emulated.sum(axis=1) / len(common), analytic.sum(axis=1) / len(common)
    return {
        "policies": list(tables),
        "refresh_s": group[0].emulated.spec.oracle.refresh_s,
        "requests": len(common),
        "mean_ttft_ms": {"emulated": means[0].tolist(), "analytic": means[1].tolist()},
        "kendall_tau": kendall_tau(means[0].tolist(), means[1].tolist()),
        "kendall_tau_interval": [float(low), float(high)],
        "gains": _gains(tables),
    }


def _sums(values: pd.Series[float], units: NDArray[np.int64]) -> NDArray[np.float64]:
    """The sum of each unit's values. Resamples draw whole units, so policies rank by sums as they do by means."""
    return np.bincount(units, weights=values.to_numpy(dtype=float)).astype(np.float64)


def _gains(tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """By policy the change of mean TTFT from the first one in each world, and whether the intervals overlap."""
    baseline, *others = tables
    found = []
    for policy in others:
        changes = [
            paired_change(_world(tables[baseline], world), _world(tables[policy], world), "ttft_ms")
            for world in ("emulated", "analytic")
        ]
        emulated, analytic = changes
        agree = emulated.low <= analytic.high and analytic.low <= emulated.high
        row = {"baseline": baseline, "policy": policy, "agree": bool(agree)}
        found.append(row | {"emulated": interval_of(emulated), "analytic": interval_of(analytic)})
    return found


def interval_of(change: Change) -> dict[str, float]:
    """A change with its interval, as JSON has it."""
    return {"percent": change.percent, "low": change.low, "high": change.high}


def _world(table: pd.DataFrame, world: str) -> pd.DataFrame:
    names = {f"{name}_{world}": name for name in ("status", "ttft_ms")}
    return table.reset_index()[["seed", "request_id", *names]].rename(columns=names)


def _indexed(tables: Mapping[str, pd.DataFrame]) -> list[pd.DataFrame]:
    return [table.set_index(["seed", "request_id"]) for table in tables.values()]


def _common(tables: Sequence[pd.DataFrame]) -> pd.Index[Any]:
    """The requests, by seed and number, that every policy completed in both worlds."""
    done = []
    for table in tables:
        completed = (table["status_emulated"] == "completed") & (table["status_analytic"] == "completed")
        done.append(pd.MultiIndex.from_frame(table.loc[completed, ["seed", "request_id"]]))
    common: pd.Index[Any] = done[0]
    for index in done[1:]:
        common = common.intersection(index)
    return common


def _joined(pair: Pair) -> pd.DataFrame:
    return pair.emulated.requests.merge(pair.analytic.requests, on="request_id", suffixes=("_emulated", "_analytic"))


def _means(pair: Pair) -> dict[str, Any]:
    """Mean figures of the requests that completed in both worlds."""
    joined = _joined(pair)
    done = joined[(joined["status_emulated"] == "completed") & (joined["status_analytic"] == "completed")]
    means = {
        f"{world}_{name}": float(done[f"{name}_{world}"].mean())
        for name in ("ttft_ms", "kv_transfer_ms")
        for world in ("emulated", "analytic")
    }
    return {"policy": pair.policy, "seed": pair.emulated.spec.seed, "requests": len(done), **means}
