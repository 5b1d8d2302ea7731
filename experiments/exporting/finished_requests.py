"""What an export reads of a run folder, whichever world made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.running import (
    Gaps,
    RunSpec,
    StoreError,
    read_manifest,
    read_summary,
    read_table,
    request_gaps_ms,
    spec_of,
)
from serving import RequestRecord

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

NEEDED = (
    *("duration", "completed", "failed", "rejected", "total_input_tokens", "total_output_tokens"),
    *("request_throughput", "request_goodput", "output_throughput"),
)
"""Figures of a summary that every version has written."""


@dataclass(frozen=True)
class FinishedRequests:
    """A run: its specification, its summary, and its requests in order of arrival, with `transfer_started_s` (seconds).

    `gaps_ms`: the gaps between the tokens of each request, by its number, milliseconds; a request is missing where the
    folder does not say. `written`: when the folder was, local time.
    """

    spec: RunSpec
    summary: Mapping[str, Any]
    requests: pd.DataFrame
    gaps_ms: Gaps
    written: datetime

    @property
    def completed(self) -> pd.DataFrame:
        """The requests that got their whole answer."""
        return self.requests[self.requests["status"] == "completed"]

    def times_ms(self, column: str) -> NDArray[np.float64]:
        """A time of each request, milliseconds; NaN where it never came."""
        return np.asarray(self.requests[column], dtype=float)


def read_finished_requests(folder: Path) -> FinishedRequests:
    """Read a run folder. StoreError when it is none, or damaged."""
    manifest, summary = read_manifest(folder), read_summary(folder)
    spec = spec_of(folder, manifest)
    requests, decisions = read_table(folder, "requests"), read_table(folder, "decisions")
    for file, names, found in (
        ("summary.json", NEEDED, summary),
        ("requests.parquet", [item.name for item in fields(RequestRecord)], requests),
        ("decisions.parquet", ["request_id"], decisions),
    ):
        if missing := [name for name in names if name not in found]:
            raise StoreError(f"{folder}: {file} is damaged: {missing[0]} is missing")
    requests = requests.sort_values("request_id", ignore_index=True)
    started = decisions.reindex(columns=["request_id", "transfer_started_s"])
    requests = requests.merge(started, on="request_id", how="left")
    measured = {
        number: [gap_s * 1e3 for gap_s in gaps_s]
        for number, gaps_s in zip(requests["request_id"].tolist(), summary.get("itls") or (), strict=False)
        if gaps_s
    }
    written = datetime.fromtimestamp((folder / "summary.json").stat().st_mtime)
    return FinishedRequests(spec, summary, requests, request_gaps_ms(spec, requests, measured), written)
