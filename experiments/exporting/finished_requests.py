"""What an export reads of a run folder, whichever world made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.running import Gaps, RunSpec, read_manifest, read_summary, read_table, request_gaps_ms, spec_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


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
    """Read a run folder. StoreError when it is none."""
    manifest, summary = read_manifest(folder), read_summary(folder)
    spec = spec_of(folder, manifest)
    requests = read_table(folder, "requests").sort_values("request_id", ignore_index=True)
    decisions = read_table(folder, "decisions")
    started = decisions.reindex(columns=["request_id", "transfer_started_s"])
    requests = requests.merge(started, on="request_id", how="left")
    measured = {
        number: [gap_s * 1e3 for gap_s in gaps_s]
        for number, gaps_s in zip(requests["request_id"].tolist(), summary.get("itls") or (), strict=False)
        if gaps_s
    }
    written = datetime.fromtimestamp((folder / "summary.json").stat().st_mtime)
    return FinishedRequests(spec, summary, requests, request_gaps_ms(spec, requests, measured), written)
