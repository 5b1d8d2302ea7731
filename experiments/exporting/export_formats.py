"""The formats by name, and how a run folder becomes the text of one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from experiments.exporting.aiperf_results import aiperf_results
from experiments.exporting.chrome_trace import chrome_trace
from experiments.exporting.finished_requests import FinishedRequests, read_finished_requests
from experiments.exporting.vllm_results import vllm_results
from experiments.running import SpecError, shortened, slo_met, strict
from topologies import did_you_mean


def _csv(run: FinishedRequests) -> str:
    """A row a request: the columns of requests.parquet, and whether it met its objective (`slo_met`)."""
    text: str = run.requests.assign(slo_met=slo_met(run.requests, run.spec.slo)).to_csv(index=False)
    return text


def _json(document: Mapping[str, object]) -> str:
    return json.dumps(strict(document), allow_nan=False) + "\n"


EXPORTS: Mapping[str, Callable[[FinishedRequests], str]] = {
    "vllm": lambda run: _json(vllm_results(run)),
    "aiperf": lambda run: _json(aiperf_results(run)),
    "csv": _csv,
    "chrome-trace": lambda run: _json(chrome_trace(run)),
}


def export_run(folder: Path, name: str) -> str:
    """The run in a folder as text in the format of that name.

    SpecError when there is no such format, StoreError when there is no run.
    """
    if name not in EXPORTS:
        raise SpecError(
            f"--format: {shortened(name)!r} is not one of {', '.join(EXPORTS)}{did_you_mean(name, EXPORTS)}"
        )
    return EXPORTS[name](read_finished_requests(folder))
