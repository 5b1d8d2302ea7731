"""The summary of one run, under vLLM's names (`vllm bench serve`) where it has one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from experiments.analysis import weighted_percentiles
from experiments.running.columns import Table
from experiments.running.token_times import TokenTimes
from scenario import SloSpec

PERCENTILES = (90, 99)

NUMBERS = (
    *("input_length", "output_length", "kv_bytes", "ttft_ms", "tpot_ms", "e2el_ms", "queue_ms", "prefill_ms"),
    *("kv_transfer_ms", "admission_ms", "decision_us", "oracle_age_ms", "predicted_kv_transfer_ms"),
)
"""The columns of requests.parquet that a summary reads, beside `status`."""


SAME_INSTANT_MS = 0.1
"""Times of one snapshot, worked out from its age at several decisions, differ by rounding; two are a poll apart."""


def summarise(
    requests: Table,
    token_gaps_ms: ArrayLike,
    duration_s: float,
    slo: SloSpec,
    token_gap_counts: ArrayLike | None = None,
    decisions: Table | None = None,
    token_times: TokenTimes | None = None,
) -> dict[str, Any]:
    """Every figure of `summary.json`; a figure that has no data is None.

    `requests`: the columns of requests.parquet. `token_gap_counts`: how often each gap occurred (None: once). A run has
    millions of gaps and few distinct ones.

    As in vLLM, a request of one token has no time per output token: it enters no `tpot_ms`, and counts as within it.

    Failed and rejected requests count as having missed their SLO.
    `decisions`: the columns of decisions.parquet. oracle_snapshots: the telemetry snapshots that these used.
    `token_times`: when the tokens of completed requests came (None: not known).
    oracle_mape: mean of |predicted - measured| / measured over the transfers that moved bytes, a ratio.
    """
    status = np.asarray(requests["status"], dtype=object)
    completed = status == "completed"
    done = {name: np.asarray(requests[name], dtype=float)[completed] for name in NUMBERS}
    good = int(slo_met(requests, slo).sum())
    finished = int(completed.sum())
    figures: dict[str, Any] = {
        "completed": finished,
        "failed": int((status == "failed").sum()),
        "rejected": int((status == "rejected").sum()),
        "duration": duration_s,
        "request_throughput": finished / duration_s if duration_s else None,
        "request_goodput": good / duration_s if duration_s else None,
        "output_throughput": float(done["output_length"].sum()) / duration_s if duration_s else None,
        "total_input_tokens": int(done["input_length"].sum()),
        "total_output_tokens": int(done["output_length"].sum()),
        "slo_attainment": good / len(status) if len(status) else None,
    }
    tokens = figures["total_input_tokens"] + figures["total_output_tokens"]
    figures["total_token_throughput"] = tokens / duration_s if duration_s else None
    figures |= peaks(requests, token_times)
    for name, values in (
        ("ttft_ms", done["ttft_ms"]),
        ("tpot_ms", done["tpot_ms"][done["output_length"] > 1]),
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
    figures["oracle_snapshots"] = None if decisions is None else snapshots_used(decisions)
    figures["oracle_mape"] = _mean_relative_error(done)
    return {name: _finite(value) for name, value in figures.items()}


def peaks(requests: Table, token_times: TokenTimes | None) -> dict[str, Any]:
    """vLLM's two peaks, of completed requests alone.

    max_output_tokens_per_s: most tokens in a whole second since the first arrival; None where nobody knows when tokens
    came. max_concurrent_requests: most requests between arrival and last token at once.
    """
    completed = np.asarray(requests["status"], dtype=object) == "completed"
    arrived_s = np.sort(np.asarray(requests["timestamp_s"], dtype=float)[completed])
    ended_s = np.sort(
        np.asarray(requests["timestamp_s"], dtype=float)[completed]
        + np.asarray(requests["e2el_ms"], dtype=float)[completed] / 1e3
    )
    if not len(arrived_s):
        return {"max_output_tokens_per_s": 0.0, "max_concurrent_requests": 0}
    at_once = np.arange(1, len(arrived_s) + 1) - np.searchsorted(ended_s, arrived_s, "right")
    most_tokens = None
    if token_times is not None:
        counted = token_times.tokens > 0  # steps of requests that were lost may come before the first arrival
        seconds = np.floor(token_times.at_s[counted] - arrived_s[0]).astype(np.int64)
        most_tokens = float(np.bincount(seconds, weights=token_times.tokens[counted]).max(initial=0.0))
    return {"max_output_tokens_per_s": most_tokens, "max_concurrent_requests": int(at_once.max())}


def snapshots_used(decisions: Table) -> int:
    """How many different telemetry snapshots decisions were based on: those of one were measured at one instant."""
    decided_s, age_ms = (np.asarray(decisions[name], dtype=float) for name in ("decided_s", "oracle_age_ms"))
    sampled_ms = np.sort((decided_s * 1e3 - age_ms)[np.isfinite(age_ms)])
    return int((np.diff(sampled_ms, prepend=-np.inf) > SAME_INSTANT_MS).sum())


def slo_met(requests: Table, slo: SloSpec) -> NDArray[np.bool_]:
    """Whether each request completed with its first token and its mean time per token within the objective.

    An answer of one token has no time per token to be late with.
    """
    ttft_ms, tpot_ms = (np.asarray(requests[name], dtype=float) for name in ("ttft_ms", "tpot_ms"))
    alone = np.asarray(requests["output_length"], dtype=float) == 1
    in_time: NDArray[np.bool_] = (ttft_ms <= slo.ttft_s * 1e3) & (alone | (tpot_ms <= slo.tpot_s * 1e3))
    completed: NDArray[np.bool_] = np.asarray(requests["status"], dtype=object) == "completed"
    met: NDArray[np.bool_] = in_time & completed
    return met


def _mean_relative_error(done: dict[str, NDArray[np.float64]]) -> float | None:
    """Of the predicted time of the transfers that moved bytes; a transfer without a prediction does not count."""
    moved = (done["kv_bytes"] > 0) & (done["kv_transfer_ms"] > 0)
    predicted_ms, measured_ms = (done[name][moved] for name in ("predicted_kv_transfer_ms", "kv_transfer_ms"))
    error = np.abs(predicted_ms - measured_ms) / measured_ms
    known = int((~np.isnan(error)).sum())
    return float(np.nansum(error) / known) if known else None


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
