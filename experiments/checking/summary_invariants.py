"""Invariants of summary.json: that it sums up the tables beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from experiments.checking.history import History
from experiments.checking.violation import Floats, Violation

COUNTED = ("completed", "failed", "rejected")

MEANS = (
    *("ttft_ms", "tpot_ms", "e2el_ms", "queue_ms", "prefill_ms", "kv_transfer_ms", "admission_ms"),
    *("decision_us", "oracle_age_ms"),
)

PERCENTS = {"median": 50, "p90": 90, "p99": 99}

NEAR = 1e-9
"""Two sums of the same float64 numbers in another order differ by less, relative."""

NEAR_GAPS = 1e-6
"""The same for gaps between tokens, whose sum is also a difference of instants of the whole run."""


def summary_counts(history: History) -> Iterator[Violation]:
    """Requests by their end, their tokens, the run's duration and the rates are those of requests.parquet."""
    status, done = history.requests["status"], history.completed
    counts: dict[str, float] = {name: int((status == name).sum()) for name in COUNTED}
    expected = dict(counts)
    for name in ("input", "output"):
        expected[f"total_{name}_tokens"] = history.of_requests(f"{name}_length")[done].sum()
    yield from _compare(history.summary, expected, required=COUNTED)
    asked = history.summary.get("num_prompts", len(done))
    told = [count for name in COUNTED if isinstance(count := history.summary.get(name), int)]
    if len(told) == len(COUNTED) and sum(told) != asked:
        yield Violation("summary.json", f"{sum(told)} requests that ended", f"{asked}")
    duration_s = history.summary.get("duration")
    if not isinstance(duration_s, (int, float)):
        yield Violation("summary.json", f"duration {duration_s}", "seconds")
        return
    last_s = float(np.nanmax(history.instants.last_token, initial=0.0))
    if duration_s < last_s - history.order_s:
        yield Violation("summary.json", f"duration {duration_s:.6f}", f"{last_s:.6f} or more, the last token")
    if duration_s:
        good = _good(history)
        rates: dict[str, float] = {
            "request_throughput": counts["completed"] / duration_s,
            "request_goodput": good / duration_s,
            "output_throughput": expected["total_output_tokens"] / duration_s,
        }
        if len(done):
            rates["slo_attainment"] = good / len(done)
        yield from _compare(history.summary, rates)


def summary_means(history: History) -> Iterator[Violation]:
    """Means, medians, percentiles and deviations are those of the completed requests; so is `oracle_mape`.

    Of `itl_ms` the mean alone can be worked out again, and only where no request got tokens without completing
    or had to be tried once more.
    """
    done = history.completed
    expected: dict[str, float | None] = {}
    for name in MEANS:
        values = history.of_requests(name)[done]
        if name == "tpot_ms":
            values = values[history.of_requests("output_length")[done] > 1]
        expected |= _spread(name, values[np.isfinite(values)])
    for name in ("kv_transfer_ms", "decision_us"):
        expected[name] = expected[f"mean_{name}"]
    predicted, measured = (history.of_requests(name)[done] for name in ("predicted_kv_transfer_ms", "kv_transfer_ms"))
    moved = (history.of_requests("kv_bytes")[done] > 0) & (measured > 0)
    error = np.abs(predicted[moved] - measured[moved]) / measured[moved]
    error = error[~np.isnan(error)]
    expected["oracle_mape"] = float(error.mean()) if len(error) and np.isfinite(error.mean()) else None
    required = ("mean_ttft_ms", "mean_kv_transfer_ms")
    yield from _compare(history.summary, expected, required=required)
    started = np.isfinite(history.of_requests("admission_ms"))
    if not (started & ~done).any() and not history.tried_again.any():
        span_ms = (history.of_requests("e2el_ms") - history.of_requests("ttft_ms"))[done].sum()
        gaps = (history.of_requests("output_length") - 1)[done].sum()
        mean = {"mean_itl_ms": span_ms / gaps if gaps else None}
        yield from _compare(history.summary, mean, near=NEAR_GAPS)


def _good(history: History) -> int:
    """Completed requests within both objectives; an answer of one token has no time per token."""
    slo = history.spec["slo"]
    in_time = history.of_requests("ttft_ms") <= slo["ttft_s"] * 1e3
    alone = history.of_requests("output_length") == 1
    in_time &= alone | (history.of_requests("tpot_ms") <= slo["tpot_s"] * 1e3)
    return int((in_time & history.completed).sum())


def _spread(name: str, values: Floats) -> dict[str, float | None]:
    if not len(values):
        return {f"{what}_{name}": None for what in ("mean", "std", *PERCENTS)}
    found: dict[str, float | None] = {f"mean_{name}": float(values.mean()), f"std_{name}": float(values.std())}
    for what, percent in PERCENTS.items():
        found[f"{what}_{name}"] = float(np.percentile(values, percent))
    return found


def _compare(
    summary: Mapping[str, Any],
    expected: Mapping[str, float | None],
    required: tuple[str, ...] = (),
    near: float = NEAR,
) -> Iterator[Violation]:
    """The figures of a summary that differ. One that an older version did not write is no error unless required."""
    for name, value in expected.items():
        if name not in summary:
            if name in required:
                yield Violation("summary.json", f"no {name}", f"{value}")
            continue
        found = summary[name]
        if found is None or value is None:
            alike = found is None and value is None
        else:
            alike = isinstance(found, (int, float)) and abs(found - value) <= near * max(abs(value), 1.0)
        if not alike:
            yield Violation("summary.json", f"{name} {found}", f"{value}")
