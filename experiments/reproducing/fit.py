"""What the paper does not say of its set-up, fitted to cells of round-robin and CLA* at 100 % load, and to no other.

A bounded least-squares fit (scipy.optimize.least_squares, trust region reflective) of the analytic world. The requests
are of seeds that no reproduction uses. Each workload is fitted by itself; RAG first, whose speed of prefill and decode,
sharing and offered tokens a second the others take over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from experiments.analysis import counted
from experiments.published import (
    DEFAULT_CLA_STAR,
    PAPER_TRAFFIC,
    PublishedCell,
    fitted_changes,
    paper_set_up,
    published_cells,
)
from experiments.reproducing.cells_beside import level_of
from experiments.running import make_spec, open_world, slo_met
from serving import RequestRecord

FIRST_SEED = 1_000
"""Of the fit; a reproduction counts from 0."""

STEPS = (0.05, 0.02)
"""Of the numerical derivatives, part of a parameter, in two rounds. A small change sends requests elsewhere, so the
cells are no smooth function: the second round begins at the best point of the first, and the best of all is kept."""

OBJECTIVE = "slo.ttft_s"
"""Is not varied, but read off: see `_objective_s`."""

FLAT_BELOW = 0.1
"""Of the largest singular value: directions below it are called flat, for the cells hardly know them."""

MOST_EVALUATIONS = 12
"""Of the optimiser's steps, derivatives not counted."""


@dataclass(frozen=True)
class Parameter:
    """What is fitted: a field of a specification (or `least_step_s`), where the fit starts, and its bounds."""

    name: str
    start: float
    low: float
    high: float
    why: str


PARAMETERS: Mapping[str, Sequence[Parameter]] = {
    "rag": (
        Parameter("workload.rate_rps", 1.1, 0.3, 4.0, "requests/s at 100 % load: how much transfers slow each other"),
        Parameter("workload.mean_input_tokens", 8400, 4000, 16000, "the mean transfer; Tables 2 and 6 give 8,400"),
        Parameter("workload.input_spread", 0.85, 0.3, 1.5, "P99 TTFT beside the mean"),
        Parameter("workload.sharing", 0.5, 0.05, 0.95, "CLA*'s mean transfer beside round-robin's"),
        Parameter("model.prefill_utilisation", 0.38, 0.1, 0.9, "TTFT less transfer"),
        Parameter("least_step_s", 0.0126, 0.011, 0.014, "a decode step with one request: mean TBT"),
    ),
    "chatbot": (
        Parameter("workload.mean_input_tokens", 2900, 500, 8000, "mean TTFT"),
        Parameter("workload.input_spread", 0.6, 0.1, 1.5, "P99 TTFT"),
    ),
    "long_context": (
        Parameter("workload.mean_input_tokens", 28000, 10000, 60000, "mean TTFT"),
        Parameter("workload.input_spread", 0.6, 0.1, 1.5, "P99 TTFT"),
    ),
}  # fmt: skip

SCALE: Mapping[str, float] = {"mean_ttft": 0.01, "mean_transfer": 0.01, "mean_tbt": 0.005, "p99_ttft": 0.03}
"""What a residual is measured in, part of the published value: how well a quantity is known."""

SCALE_OF_SHARE, SCALE_OF_TIER = 0.005, 2.0
"""The same for SLO attainment (a share) and for the transfers of a tier (percent)."""


def declared_cells(workload: str) -> list[int]:
    """The numbers, in `published_cells()`, of the cells that a workload is fitted to.

    RAG: all of round-robin's and CLA*'s cells of Table 2 at 100 % load, CLA*'s share of transfers within the pod
    (Table 6) and its P99 TTFT (Figure 4). The others: CLA*'s mean TTFT (Table 4), P99 TTFT and SLO (Figure 4).
    """
    return [number for number, cell in enumerate(published_cells()) if _is_declared(cell, workload)]


def _is_declared(cell: PublishedCell, workload: str) -> bool:
    if cell.condition.get("workload") != workload or cell.policy not in ("round_robin", "cla_star"):
        return False
    if workload == "rag":
        return (
            (cell.table == "Table 2" and cell.condition["load_percent"] == 100)
            or (cell.table == "Table 6" and cell.condition.get("tier") == 2)
            or (cell.table == "Figure 4" and cell.quantity == "p99_ttft")
        )
    return (cell.table, cell.quantity) in {
        ("Table 4", "mean_ttft"), ("Figure 4", "p99_ttft"), ("Figure 4", "slo_attainment"),
    }  # fmt: skip


def fit_workload(
    workload: str,
    taken_over: Mapping[str, float],
    requests: int,
    seeds: int,
    done: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Fit one workload. `taken_over`: values that are not fitted; `done` is called after every evaluation.

    Returns `values` (four digits; with the objective of TTFT, `slo.ttft_s`), their standard `errors`, `cells`
    (published, at the start, fitted, in scales), `cost` (half the sum of squares), and `directions` of the parameters
    from the best known to the flattest.
    """
    parameters = PARAMETERS[workload]
    numbers = declared_cells(workload)
    cells = [published_cells()[number] for number in numbers]
    start = np.array([parameter.start for parameter in parameters])

    def values_at(scaled: NDArray[np.float64]) -> dict[str, float]:
        found = dict(taken_over)
        found |= {parameter.name: float(value) for parameter, value in zip(parameters, scaled * start, strict=True)}
        return found

    tried: list[tuple[float, NDArray[np.float64]]] = []

    def residuals(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        ours = _ours(workload, _with_equal_load(workload, values_at(scaled)), cells, requests, seeds)
        done()
        off: NDArray[np.float64] = ((ours - theirs) / scales)[smooth]
        tried.append((float(off @ off) / 2, scaled.copy()))
        return off

    theirs = np.array([cell.value for cell in cells])
    smooth = np.array([cell.quantity != "slo_attainment" for cell in cells])
    scales = np.array([_scale(cell) for cell in cells])
    first = _ours(workload, _with_equal_load(workload, values_at(np.ones(len(parameters)))), cells, requests, seeds)
    best = np.ones(len(parameters))
    for step in STEPS:
        found = least_squares(
            residuals, best,
            bounds=([one.low / one.start for one in parameters], [one.high / one.start for one in parameters]),
            diff_step=step, max_nfev=MOST_EVALUATIONS, xtol=2e-3, ftol=1e-3,
        )  # fmt: skip
        cost, best = min(tried, key=lambda one: one[0])
    values = {name: _rounded(value) for name, value in _with_equal_load(workload, values_at(best)).items()}
    values[OBJECTIVE] = _rounded(_objective_s(workload, values, cells, requests, seeds))
    last = _ours(workload, values, cells, requests, seeds)
    _, strengths, axes = np.linalg.svd(found.jac, full_matrices=False)
    variances = np.linalg.pinv(found.jac.T @ found.jac).diagonal()
    return {
        "values": values,
        "errors": {
            one.name: float(f"{one.start * np.sqrt(variance):.2g}")
            for one, variance in zip(parameters, variances, strict=True)
        },
        "bounds": {one.name: [one.low, one.high] for one in parameters},
        "cells": [
            {
                "number": number, "table": cell.table, "policy": cell.policy, "quantity": cell.quantity,
                "published": cell.value, "start": round(float(before), 4), "fitted": round(float(after), 4),
                "off_by_scales": round(float(after - cell.value) / float(scale), 2),
            }
            for number, cell, before, after, scale in zip(numbers, cells, first, last, scales, strict=True)
        ],
        "cost": round(cost, 2),
        "evaluations": len(tried),
        "ended": str(found.message),
        "directions": [
            {
                "strength": round(float(strength / strengths[0]), 4),
                "flat": bool(strength < FLAT_BELOW * strengths[0]),
                "of": {one.name: round(float(part), 2) for one, part in zip(parameters, axis, strict=True)},
            }
            for strength, axis in zip(strengths, axes, strict=True)
        ],
    }  # fmt: skip


def _objective_s(
    workload: str, values: Mapping[str, float], cells: Sequence[PublishedCell], requests: int, seeds: int
) -> float:
    """The objective of TTFT, s, at which as many requests meet it as the cells say: a mean over the cells.

    It is read off the fitted runs, since it changes nothing in them.
    """
    found = []
    for cell in cells:
        if cell.quantity == "slo_attainment":
            ttft_ms = _run(workload, values, cell.policy, requests, seeds)["ttft_ms"]
            found.append(float(ttft_ms.quantile(cell.value)) / 1e3)
    return float(np.mean(found))


def taken_over_from_rag(values: Mapping[str, float]) -> dict[str, float]:
    """What the other workloads share with RAG: the machine, sharing, and (as `rag_tokens_per_s`) its offered tokens."""
    kept = ("workload.sharing", "model.prefill_utilisation", "least_step_s")
    tokens_per_s = values["workload.rate_rps"] * values["workload.mean_input_tokens"]
    return {**{name: values[name] for name in kept}, "rag_tokens_per_s": tokens_per_s}


def _with_equal_load(workload: str, values: Mapping[str, float]) -> dict[str, float]:
    """The rate at which a workload offers as many tokens a second as RAG does. RAG's own is fitted."""
    found = dict(values)
    if workload != "rag" and (offered := found.pop("rag_tokens_per_s", None)) is not None:
        found["workload.rate_rps"] = offered / found["workload.mean_input_tokens"]
    return found


def _ours(
    workload: str, values: Mapping[str, float], cells: Sequence[PublishedCell], requests: int, seeds: int
) -> NDArray[np.float64]:
    """The cells' quantities in the analytic world."""
    of_policy = {policy: _run(workload, values, policy, requests, seeds) for policy in {cell.policy for cell in cells}}
    return np.array([level_of(cell, of_policy[cell.policy]).value for cell in cells])


def _run(workload: str, values: Mapping[str, float], policy: str, requests: int, seeds: int) -> pd.DataFrame:
    frames = []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        changes = {
            **paper_set_up(workload), **fitted_changes(workload, values), **PAPER_TRAFFIC, **DEFAULT_CLA_STAR,
            "world": "analytic", "policy": policy, "seed": seed, "workload.requests": requests,
        }  # fmt: skip
        spec = make_spec({}, changes)
        with open_world(spec) as world:
            outcome = world.run(spec.scenario)
        table = pd.DataFrame(outcome.requests, columns=list(RequestRecord.__dataclass_fields__))
        frames.append(table.assign(run=str(seed), seed=seed, verdict="valid", slo_met=slo_met(table, spec.slo)))
    return counted(pd.concat(frames, ignore_index=True))


def _scale(cell: PublishedCell) -> float:
    if cell.quantity == "slo_attainment":
        return SCALE_OF_SHARE
    return SCALE_OF_TIER if cell.quantity == "transfers_of_tier" else SCALE[cell.quantity] * cell.value


def _rounded(value: float) -> float:
    """Four digits: what the cells can tell of a decode step."""
    return float(f"{value:.4g}")
