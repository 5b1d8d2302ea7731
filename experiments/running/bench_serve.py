"""The names of vLLM's `vllm bench serve --save-result` (vllm/benchmarks/serve.py) beside those that `summary` measures.

What describes the benchmark itself, and the arrays of `--save-detailed`, one entry a request in order of arrival.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.running.columns import Table
from experiments.running.run_spec import RunSpec
from experiments.running.token_times import Gaps

METRICS = ("ttft_ms", "tpot_ms", "itl_ms", "e2el_ms")
VLLM_SET_UP = (
    *("date", "endpoint_type", "backend", "label", "model_id", "tokenizer_id", "num_prompts"),
    *("request_rate", "burstiness", "max_concurrency"),
)
VLLM_FIGURES = (
    *("duration", "completed", "failed", "total_input_tokens", "total_output_tokens", "request_throughput"),
    *("request_goodput", "output_throughput", "total_token_throughput"),
    *("max_output_tokens_per_s", "max_concurrent_requests", "rtfx"),
    *(f"{what}_{metric}" for metric in METRICS for what in ("mean", "median", "std", "p90", "p99")),
)
VLLM_ARRAYS = (
    *("input_lens", "output_lens", "ttfts", "itls", "latencies", "start_times", "queue_times"),
    *("generated_texts", "errors"),
)


def set_up_of(spec: RunSpec, requests: Table) -> dict[str, Any]:
    """`VLLM_SET_UP` and `rtfx` of a run. None: has no meaning here; `date`: equal runs are equal files.

    request_rate: requests/s, as specified; of a trace, arrivals but the first over the time between first and last.
    burstiness: 1 for Poisson arrivals, as in vLLM. rtfx: of audio alone, so 0, as in vLLM.
    """
    arrived_s = np.asarray(requests["timestamp_s"], dtype=float)
    world = f"netkv-{spec.world}"
    return {
        "date": None,
        "endpoint_type": world,
        "backend": world,
        "label": spec.policy,
        "model_id": spec.model.name,
        "tokenizer_id": None,
        "num_prompts": len(arrived_s),
        "request_rate": _request_rate(spec, arrived_s),
        "burstiness": 1.0 if spec.workload.arrival_mode == "poisson" else None,
        "max_concurrency": None,
        "rtfx": 0.0,
    }


def arrays_of(requests: Table, gaps_ms: Gaps) -> dict[str, list[Any]]:
    """`VLLM_ARRAYS` of a run, times in seconds from t = 0. As in vLLM, a request that did not complete has zeros.

    `itls` of a request is empty where its gaps are not known. `queue_times` are those of a client that limits its
    requests, so 0; `generated_texts` are empty: there is no text.
    """
    done = (np.asarray(requests["status"], dtype=object) == "completed").tolist()
    numbers = np.asarray(requests["request_id"]).tolist()
    return {
        "input_lens": np.asarray(requests["input_length"]).tolist(),
        "output_lens": np.where(done, np.asarray(requests["output_length"]), 0).tolist(),
        "ttfts": _seconds(requests, "ttft_ms", done),
        "itls": [
            [gap / 1e3 for gap in gaps_ms.get(number, ())] if ended else []
            for number, ended in zip(numbers, done, strict=True)
        ],
        "latencies": _seconds(requests, "e2el_ms", done),
        "start_times": np.asarray(requests["timestamp_s"], dtype=float).tolist(),
        "queue_times": [0.0] * len(numbers),
        "generated_texts": [""] * len(numbers),
        "errors": [
            error or ("" if ended else status)
            for error, status, ended in zip(list(requests["error"]), list(requests["status"]), done, strict=True)
        ],
    }


def _seconds(requests: Table, column: str, done: list[bool]) -> list[float]:
    seconds: list[float] = np.where(done, np.asarray(requests[column], dtype=float) / 1e3, 0.0).tolist()
    return seconds


def _request_rate(spec: RunSpec, arrived_s: NDArray[np.float64]) -> float | None:
    workload = spec.workload
    if workload.trace is None:
        return workload.rate_rps * workload.speedup
    span_s = float(np.ptp(arrived_s)) if len(arrived_s) else 0.0
    return (len(arrived_s) - 1) / span_s if span_s else None
