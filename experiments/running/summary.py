"""The summary of one run, under vLLM's names (`vllm bench serve`) where it has one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from experiments.analysis import weighted_percentiles
from scenario import SloSpec

PERCENTILES = (90, 99)


def summarise(
    requests: pd.DataFrame,
    token_gaps_ms: ArrayLike,
    duration_s: float,
    slo: SloSpec,
    token_gap_counts: ArrayLike | None = None,
) -> dict[str, Any]:
    """Every figure of `summary.json`; a figure that has no data is None.

    `token_gap_counts`: how often each gap occurred (None: once). A run has millions of gaps and few distinct ones.

    As in vLLM, a request of one token has no time per output token: it enters no `tpot_ms`, and counts as within it.

    Failed and rejected requests count as having missed their SLO.
    oracle_mape: mean of |predicted - measured| / measured over the transfers that moved bytes, a ratio.
    """
    done = requests[requests["status"] == "completed"]
    moved = done[(done["kv_bytes"] > 0) & (done["kv_transfer_ms"] > 0)]
    good = requests[slo_met(requests, slo)]
    counts = requests["status"].value_counts()
    figures: dict[str, Any] = {
        "completed": int(counts.get("completed", 0)),
        "failed": int(counts.get("failed", 0)),
        "rejected": int(counts.get("rejected", 0)),
        "duration": duration_s,
        "request_throughput": len(done) / duration_s if duration_s else None,
        "request_goodput": len(good) / duration_s if duration_s else None,
        "output_throughput": float(done["output_length"].sum()) / duration_s if duration_s else None,
        "total_input_tokens": int(done["input_length"].sum()),
        "total_output_tokens": int(done["output_length"].sum()),
        "slo_attainment": len(good) / len(requests) if len(requests) else None,
    }
    for name, values in (
        ("ttft_ms", done["ttft_ms"]),
        ("tpot_ms", done.loc[done["output_length"] > 1, "tpot_ms"]),
        ("itl_ms", token_gaps_ms),
        ("e2el_ms", done["e2el_ms"]),
        ("queue_ms", done["queue_ms"]),
        ("prefill_ms", done["prefill_ms"]),
        ("kv_transfer_ms", done["kv_transfer_ms"]),
        ("admission_ms", done["admission_ms"]),
        ("decision_us", done["decision_us"]),
        ("oracle_age_ms", done["oracle_age_ms"]),
    ):
        figures |= _spread(name, values, token_gap_counts if name == "itl_ms" else None)
    figures["kv_transfer_ms"] = figures["mean_kv_transfer_ms"]
    figures["decision_us"] = figures["mean_decision_us"]
    error = (moved["predicted_kv_transfer_ms"] - moved["kv_transfer_ms"]).abs() / moved["kv_transfer_ms"]
    figures["oracle_mape"] = float(error.mean()) if len(error) else None
    return {name: _finite(value) for name, value in figures.items()}


def slo_met(requests: pd.DataFrame, slo: SloSpec) -> pd.Series[bool]:
    """Whether each request completed with its first token and its mean time per token within the objective."""
    in_time = (requests["ttft_ms"] <= slo.ttft_s * 1e3) & (requests["tpot_ms"] <= slo.tpot_s * 1e3)
    return in_time & (requests["status"] == "completed")


def _spread(name: str, values: ArrayLike, counts: ArrayLike | None) -> dict[str, float | None]:
    given = np.asarray(values, dtype=float)
    often = np.ones(given.shape, np.int64) if counts is None else np.asarray(counts, np.int64)
    counted = np.isfinite(given) & (often > 0)
    known, often = given[counted], often[counted]
    if not len(known):
        return {f"{what}_{name}": None for what in ("mean", "median", "std", *(f"p{p}" for p in PERCENTILES))}
    mean = float(np.average(known, weights=often))
    median, *high = weighted_percentiles(known, often, (50, *PERCENTILES))
    return {
        f"mean_{name}": mean,
        f"median_{name}": median,
        f"std_{name}": float(np.sqrt(np.average((known - mean) ** 2, weights=often))),
        **{f"p{p}_{name}": found for p, found in zip(PERCENTILES, high, strict=True)},
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
