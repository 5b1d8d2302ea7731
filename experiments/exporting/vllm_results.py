"""The file that `vllm bench serve --save-result --save-detailed` would have written of a run."""

from __future__ import annotations

from typing import Any

from experiments.exporting.finished_requests import FinishedRequests
from experiments.running import VLLM_FIGURES, VLLM_SET_UP, arrays_of, peaks, set_up_of, times_of_gaps


def vllm_results(run: FinishedRequests) -> dict[str, Any]:
    """vLLM's names alone (vllm/benchmarks/serve.py), in its order, with its `failed`: every request not completed.

    `date` is when the run's folder was written. Folders of earlier versions lack some names; these are worked out.
    """
    summary = dict(run.summary)
    tokens = summary["total_input_tokens"] + summary["total_output_tokens"]
    known = {
        **peaks(run.requests, times_of_gaps(run.requests, run.gaps_ms) if run.gaps_ms else None),
        "total_token_throughput": tokens / summary["duration"] if summary["duration"] else None,
        **set_up_of(run.spec, run.requests),
        **summary,
        "date": f"{run.written:%Y%m%d-%H%M%S}",
        "failed": summary["failed"] + summary["rejected"],
    }
    arrays = arrays_of(run.requests, run.gaps_ms)
    return {name: known[name] for name in (*VLLM_SET_UP, *VLLM_FIGURES)} | arrays
