"""The file `profile_export_aiperf.json` that NVIDIA's AIPerf, the successor of GenAI-Perf, would have written of a run.

The form is that of its JSON export, schema 1.1: a block a metric, with `unit` and `avg` and, where there is a value a
request, its distribution (https://docs.nvidia.com/aiperf/reference/json-export-schema).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from experiments.exporting.finished_requests import FinishedRequests
from experiments.running import slo_met

SCHEMA_VERSION = "1.1"
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)


def aiperf_results(run: FinishedRequests) -> dict[str, Any]:
    """AIPerf's metrics of a run that have a meaning here. Requests that did not complete count as errors."""
    done, summary = run.completed, run.summary
    lost = run.requests[run.requests["status"] != "completed"]
    several = done[done["output_length"] > 1]  # an answer of one token has no gap
    second_ms = [gaps_ms[0] for number in done["request_id"] if (gaps_ms := run.gaps_ms.get(number))]
    tokens = summary["total_input_tokens"] + summary["total_output_tokens"]
    duration_s = summary["duration"]
    values: dict[str, tuple[str, Any]] = {
        "request_latency": ("ms", done["e2el_ms"]),
        "time_to_first_token": ("ms", done["ttft_ms"]),
        "time_to_second_token": ("ms", second_ms),
        "inter_token_latency": ("ms", several["tpot_ms"]),
        "output_token_throughput_per_user": ("tokens/sec/user", 1e3 / several["tpot_ms"]),
        "output_sequence_length": ("tokens", done["output_length"]),
        "input_sequence_length": ("tokens", done["input_length"]),
    }
    totals = {
        "request_throughput": ("requests/sec", summary["request_throughput"]),
        "output_token_throughput": ("tokens/sec", summary["output_throughput"]),
        "total_token_throughput": ("tokens/sec", tokens / duration_s if duration_s else None),
        "goodput": ("requests/sec", summary["request_goodput"]),
        "request_count": ("requests", len(done)),
        "good_request_count": ("requests", int(slo_met(run.requests, run.spec.slo).sum())),
        "error_request_count": ("requests", len(lost)),
        "total_isl": ("tokens", summary["total_input_tokens"]),
        "total_osl": ("tokens", summary["total_output_tokens"]),
        "benchmark_duration": ("sec", duration_s),
    }
    errors = Counter((row.status, row.error) for row in lost.itertuples())
    return {
        "schema_version": SCHEMA_VERSION,
        **{name: spread for name, (unit, given) in values.items() if (spread := _spread(unit, given))},
        **{name: {"unit": unit, "avg": float(value)} for name, (unit, value) in totals.items() if value is not None},
        "was_cancelled": False,
        "error_summary": [
            {"error_details": {"type": status, "message": message}, "count": count}
            for (status, message), count in errors.items()
        ],
    }


def _spread(unit: str, given: Any) -> dict[str, Any]:
    """The distribution of a metric; empty where there is no value. As in AIPerf, `std` is of the whole population."""
    values = np.asarray(given, dtype=float)
    values = values[np.isfinite(values)]
    if not len(values):
        return {}
    return {
        "unit": unit,
        "avg": float(values.mean()),
        "min": float(values.min()),
        "max": float(values.max()),
        **{f"p{share}": float(np.percentile(values, share)) for share in PERCENTILES},
        "std": float(values.std()),
        "count": len(values),
        "sum": float(values.sum()),
    }
