"""Tuning: a grid search over a policy's parameters in the analytic world, on requests that the evaluation never sees.

A comparison with a baseline is only worth something if the baseline was tuned, and only honest if it was not tuned on
what it is judged by. So the search replays other requests of the same workload, under other background traffic.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from experiments.running import RunSpec, SpecError, make_spec, open_world, summarise
from scenario import load_requests
from scheduler import parameters_of
from serving import RequestRecord
from workloads import WorkloadError

WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)
DEFAULT_GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "cla_star": {"prefix": WEIGHTS, "queue": WEIGHTS, "memory": WEIGHTS},
}
SCALE_FREE = frozenset({"cla_star", "cla", "llmd_default"})
"""Policies that only the ratios of their weights matter to: of points on one ray, one is enough."""

NO_WEIGHTS = frozenset({"match_tokens"})
"""Parameters of theirs that are no weights: a grid over one keeps all its points."""

SEED_STEP = 1_000_003
"""Added to the evaluation's seed for the first seed of the search: no sweep counts that far."""

OBJECTIVES = ("mean_ttft_ms", "p99_ttft_ms", "mean_kv_transfer_ms", "mean_e2el_ms")


@dataclass(frozen=True)
class Slice:
    """The requests of a search: numbers `first` to `first + count - 1` of the workload, and the seeds."""

    first: int
    count: int
    seeds: tuple[int, ...]


def grid_points(policy: str, grid: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """Every combination of the grid's values, without all zeros; of a scale-free policy's, one a ratio. SpecError."""
    known = parameters_of(policy)
    if not grid:
        raise SpecError(f"tune: {policy} has no grid of its own: give one with --grid PARAMETER=VALUE,VALUE")
    for name, values in grid.items():
        if name not in known:
            raise SpecError(f"--grid {name}: {policy} has no such parameter ({', '.join(known) or 'it has none'})")
        if not values:
            raise SpecError(f"--grid {name}: no values")
    points, seen = [], set()
    for values in itertools.product(*grid.values()):
        largest = max(abs(value) for value in values)
        if policy in SCALE_FREE and NO_WEIGHTS.isdisjoint(grid):
            key = tuple(value / largest for value in values) if largest else ()
            if not key or key in seen:
                continue
            seen.add(key)
        points.append(dict(zip(grid, values, strict=True)))
    return points


def tuning_slice(spec: RunSpec, count: int | None, seeds: int) -> Slice:
    """Requests beside those of the evaluation: the ones after it, or before it where a trace ends. SpecError if none.

    The generator draws from the seed, so that other seeds would do; the numbers are kept apart all the same.
    """
    workload = spec.workload
    wanted = count or workload.requests
    last = workload.first_request + workload.requests
    for first in (last, workload.first_request - wanted):
        if first < 0:
            continue
        moved = workload.model_copy(update={"first_request": first, "requests": wanted})
        try:
            found = len(load_requests(spec.scenario.model_copy(update={"workload": moved})))
        except WorkloadError:
            continue
        if found == wanted:
            return Slice(first, wanted, tuple((spec.seed + SEED_STEP + k) % 2**32 for k in range(seeds)))
    raise SpecError(
        f"tune: {workload.trace or workload.profile} has no {wanted} requests beside the {workload.requests} of the"
        f" evaluation, from number {workload.first_request} on (evaluate on fewer with --requests, or tune on fewer"
        " with --slice)"
    )


def search(
    fields: Mapping[str, Any], policy: str, points: Sequence[Mapping[str, float]], part: Slice, done: Callable[[], None]
) -> pd.DataFrame:
    """One row a point and seed: the parameters, and every figure of the run's summary."""
    rows = []
    for seed in part.seeds:
        for point in points:
            changes = {
                "world": "analytic",
                "policy": policy,
                "policy_parameters": {policy: dict(point)},
                "seed": seed,
                "workload.first_request": part.first,
                "workload.requests": part.count,
            }
            spec = make_spec(fields, changes)
            with open_world(spec) as world:
                outcome = world.run(spec.scenario)
            requests = pd.DataFrame(outcome.requests, columns=list(RequestRecord.__dataclass_fields__))
            gaps_ms, counts = outcome.token_gaps_ms, outcome.token_gap_counts
            rows.append({"seed": seed, **point, **summarise(requests, gaps_ms, outcome.duration_s, spec.slo, counts)})
            done()
    return pd.DataFrame(rows)


def ranking(grid: pd.DataFrame, parameters: Sequence[str], objective: str) -> pd.DataFrame:
    """The points from best to worst: mean of the objective over the seeds, those that lost requests last."""
    scored = grid.assign(lost=grid["failed"] + grid["rejected"], score=grid[objective].astype(float).fillna(math.inf))
    means = scored.groupby(list(parameters), sort=True, as_index=False)[["lost", "score"]].mean()
    return means.sort_values(["lost", "score", *parameters], kind="stable", ignore_index=True)
