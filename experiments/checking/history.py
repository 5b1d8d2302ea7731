"""The records of a run folder as a history: tables as they are, and the instants of each request put on one clock.

Instants are seconds of the real system from t = 0; one that the records do not tell is NaN.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.checking.reference_model import ReferenceFabric
from experiments.checking.violation import Bools, Floats
from experiments.running import StoreError

COLUMNS = {
    "requests": (
        *("request_id", "timestamp_s", "input_length", "output_length", "policy", "prefill_id", "decode_id", "tier"),
        *("cached_tokens", "kv_bytes", "queue_ms", "prefill_ms", "kv_transfer_ms", "admission_ms", "ttft_ms"),
        *("tpot_ms", "e2el_ms", "oracle_age_ms", "predicted_kv_transfer_ms", "decision_us", "status", "error"),
    ),
    "decisions": (
        *("request_id", "decided_s", "prefill_id", "decode_id", "tier", "cached_tokens", "kv_bytes"),
        *("predicted_kv_transfer_ms", "oracle_age_ms", "decision_us"),
    ),
    "links": ("time_s", "link", "utilisation", "bytes"),
    "paths": (
        *("owner", "number", "connection", "started_s", "ended_s", "bytes", "source", "target", "tier"),
        *("source_port", "equal_paths", "path", "links"),
    ),
}
"""The columns that are read of each table."""

SECTIONS = ("fabric", "model", "oracle", "serving", "slo", "workload", "congestion")

EXACT_S = 1e-6
"""Analytic: instants are sums of the same float64 numbers in another order; up to 10^5 s they differ by 10^-10 s."""

STAMPS_S = 1e-5
"""Emulated: workers stamp their events with one monotonic clock, in whole microseconds of wall time."""

LAG_S = 1.0
"""Emulated: a step of a request is ordered by messages and timers, which a busy machine delays, wall seconds. It is far
beyond what a valid run has (the verdict judges that), and far below what a lost or invented step amounts to."""

ABOVE_RATE = 1.05
"""Emulated: a shaper passes its rate and a burst; the controller publishes no utilisation above this."""


@dataclass(frozen=True)
class Instants:
    """When each request got how far, rows as in `requests`.

    `received` and `admitted` of a request without bytes to move are NaN in the emulated world, which does not record
    when the decode instance heard of it; `earliest_admitted` is known then, too.
    """

    arrived: Floats
    prefill_start: Floats
    prefill_end: Floats
    decided: Floats
    sent: Floats
    received: Floats
    admitted: Floats
    earliest_admitted: Floats
    first_token: Floats
    last_token: Floats


@dataclass(frozen=True)
class History:
    """The records of one run. `spec`, `evidence` and `summary` are plain data, as the folder has them."""

    run: str
    world: str
    spec: Mapping[str, Any]
    evidence: Mapping[str, Any]
    summary: Mapping[str, Any]
    requests: pd.DataFrame
    decisions: pd.DataFrame
    links: pd.DataFrame
    paths: pd.DataFrame | None

    @property
    def emulated(self) -> bool:
        return self.world == "emulated"

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """`request_id` of each row of `requests`."""
        return whole(self.requests, "request_id")

    @cached_property
    def completed(self) -> Bools:
        return np.asarray(self.requests["status"] == "completed")

    @cached_property
    def decided(self) -> pd.DataFrame:
        """The (first) decision of each row of `requests`, NaN where there is none."""
        return self.decisions.drop_duplicates("request_id").set_index("request_id").reindex(self.numbers)

    @cached_property
    def fabric(self) -> ReferenceFabric:
        return ReferenceFabric(self.spec["fabric"])

    @cached_property
    def order_s(self) -> float:
        """Two instants that are in order may be apart by this much in the wrong one, seconds."""
        return STAMPS_S / self._dilation if self.emulated else EXACT_S

    @cached_property
    def lag_s(self) -> float:
        """The most that messages and timers may delay a step of a request, seconds of the real system."""
        return LAG_S / self._dilation if self.emulated else EXACT_S

    @cached_property
    def rate_scale(self) -> float:
        """Bytes of the real system that a byte stands for."""
        return float(self.spec["emulation"]["rate_scale"]) if self.emulated else 1.0

    @property
    def spreads_evenly(self) -> bool:
        """Whether a transfer uses every path of its tier evenly: a network model of the analytic world."""
        simulation = self.spec.get("simulation") or {}
        return not self.emulated and (simulation.get("spreading") == "ideal" or self.closed_form)

    @property
    def closed_form(self) -> bool:
        """Whether nothing is contended between the ends of a path (`simulation.network`)."""
        return not self.emulated and (self.spec.get("simulation") or {}).get("network") == "closed_form"

    @property
    def _dilation(self) -> float:
        return float(self.spec["emulation"]["time_dilation"])

    def of_requests(self, column: str) -> Floats:
        return numbers(self.requests, column)

    @cached_property
    def instants(self) -> Instants:
        milliseconds = {
            name: self.of_requests(f"{name}_ms") / 1e3
            for name in ("queue", "prefill", "kv_transfer", "admission", "ttft", "e2el")
        }
        arrived = self.of_requests("timestamp_s")
        prefill_start = arrived + milliseconds["queue"]
        sent = numbers(self.decided, "transfer_started_s")
        received = sent + milliseconds["kv_transfer"]
        known = (self.of_requests("kv_bytes") > 0) | (not self.emulated)
        admitted = received + milliseconds["admission"]
        return Instants(
            arrived=arrived,
            prefill_start=prefill_start,
            prefill_end=prefill_start + milliseconds["prefill"],
            decided=numbers(self.decided, "decided_s"),
            sent=sent,
            received=np.where(known, received, np.nan),
            admitted=np.where(known, admitted, np.nan),
            earliest_admitted=admitted,
            first_token=arrived + milliseconds["ttft"],
            last_token=arrived + milliseconds["e2el"],
        )


def numbers(table: pd.DataFrame, column: str) -> Floats:
    """A column as float64; NaN where it is missing or no number."""
    if column not in table:
        return np.full(len(table), np.nan)
    return pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan)


def whole(table: pd.DataFrame, column: str) -> NDArray[np.int64]:
    """A column as int64; -1 where it is missing or no number."""
    return np.nan_to_num(numbers(table, column), nan=-1).astype(np.int64)


def read_history(folder: Path) -> History:
    """The history in a run folder. StoreError when it is none, or lacks what a history needs."""
    manifest = _read_object(folder, "manifest.json")
    spec = manifest.get("spec")
    if not isinstance(spec, Mapping) or any(not isinstance(spec.get(name), Mapping) for name in SECTIONS):
        raise StoreError(f"{folder}: manifest.json is damaged: no specification")
    world = spec.get("world")
    if world not in ("emulated", "analytic") or world not in (manifest.get("world"), world):
        raise StoreError(f"{folder}: manifest.json is damaged: world: {world!r}")
    return History(
        run=folder.name or str(folder),
        world=world,
        spec=spec,
        evidence=manifest.get("evidence") or {},
        summary=_read_object(folder, "summary.json"),
        requests=_read_columns(folder, "requests"),
        decisions=_read_columns(folder, "decisions"),
        links=_read_columns(folder, "links"),
        paths=_read_columns(folder, "paths") if (folder / "paths.parquet").is_file() else None,
    )


def run_folders(folder: Path) -> Sequence[Path]:
    """The run folder itself, or all run folders of a sweep. StoreError when it is neither."""
    if (folder / "manifest.json").is_file():
        return [folder]
    found = sorted(place.parent for place in (folder / "runs").glob("[!.]*/manifest.json"))
    if not found:
        raise StoreError(f"{folder}: neither a run folder (no manifest.json) nor a sweep with runs (no runs/*/)")
    return found


def _read_object(folder: Path, name: str) -> Mapping[str, Any]:
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except OSError as problem:
        raise StoreError(f"{folder}: not a run folder: {name}: {problem.strerror}") from None
    except ValueError as problem:
        raise StoreError(f"{folder}: {name} is damaged: {problem}") from None
    if not isinstance(found, dict):
        raise StoreError(f"{folder}: {name} is damaged: not an object")
    return found


def _read_columns(folder: Path, table: str) -> pd.DataFrame:
    try:
        found = pd.read_parquet(folder / f"{table}.parquet")
    except (OSError, ValueError) as problem:
        raise StoreError(f"{folder}: not a run folder: {table}.parquet: {problem}") from None
    if missing := [name for name in COLUMNS[table] if name not in found]:
        raise StoreError(f"{folder}: {table}.parquet is damaged: no column {missing[0]}")
    return found
