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

NEEDED = {
    "fabric": (
        *("pods", "racks_per_pod", "servers_per_rack", "gpus_per_server", "gpus_per_instance", "aggregations_per_pod"),
        *("cores_per_group", "nvlink_rate_bps", "nic_rate_bps", "tor_oversubscription"),
        *("aggregation_oversubscription", "hop_latency_s"),
    ),
    "model": (
        *("kv_bytes_per_token", "layers", "hidden", "prefill", "gpu_flops", "prefill_utilisation", "step_table_s"),
    ),
    "oracle": ("source", "poll_s", "refresh_s", "delay_s", "loss"),
    "serving": (
        *("placement", "prefill", "transfer", "stripes", "batch_slots", "kv_memory_tokens", "kv_admission"),
        *("prefix_cache_tokens", "overlap"),
    ),
    "slo": ("ttft_s", "tpot_s"),
    "workload": ("requests",),
    "congestion": ("kind",),
}
"""The fields of a specification that are read, by section."""

NEEDED_EMULATED = {"emulation": ("rate_scale", "time_dilation")}
"""And those of an emulated run."""

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
    """When each request got how far, rows as in `requests`. `room`: when it had KV memory before its transfer.

    Of a request without bytes to move the emulated world does not record when the decode instance heard of it, and
    takes `transfer_started_s` after telling it: `sent`, `received` and `admitted` are NaN then. `earliest_received` and
    `earliest_admitted` take the decision as the instant at which it heard.
    """

    arrived: Floats
    prefill_start: Floats
    prefill_end: Floats
    decided: Floats
    room: Floats
    sent: Floats
    received: Floats
    admitted: Floats
    earliest_received: Floats
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
    faults: Sequence[Mapping[str, Any]] = ()

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
    def tried_again(self) -> Bools:
        """Requests whose record is of a further attempt, after a fault, a broken transfer or a silence."""
        retried = [number for fault in self.faults for number in fault.get("retried_ids", ())]
        return np.isin(self.numbers, [*retried, *self.evidence.get("retried_ids", ())])

    @cached_property
    def broken(self) -> frozenset[str]:
        """The kinds of the faults that the run had."""
        return frozenset(str(fault.get("kind")) for fault in self.faults)

    @property
    def lost_prefills(self) -> bool:
        """Whether prefill instances have had prompts that the records give to others: a worker has ended in mid-run, or
        was silent for longer than `serving.retry.timeout_s`."""
        retry = self.spec["serving"].get("retry")
        given_up = isinstance(retry, Mapping) and retry.get("timeout_s") != "never" and bool(self.tried_again.any())
        return "prefill_worker_killed" in self.broken or bool(self.evidence.get("worker_deaths")) or given_up

    @cached_property
    def unreported(self) -> Bools:
        """Requests whose sender never reported: only the emulated world has senders that can fail."""
        return np.isnan(self.of_requests("kv_transfer_ms")) & self.emulated

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
        return STAMPS_S / self.dilation if self.emulated else EXACT_S

    @cached_property
    def lag_s(self) -> float:
        """The most that messages and timers may delay a step of a request, seconds of the real system."""
        return LAG_S / self.dilation + self.paused_s if self.emulated else EXACT_S

    @cached_property
    def paused_s(self) -> float:
        """How long the whole machine was paused, seconds of the real system: everything may be so much later."""
        pauses = [fault for fault in self.faults if fault.get("kind") == "machine_paused"]
        ends_s = [np.inf if fault.get("until_s") is None else float(fault["until_s"]) for fault in pauses]
        return sum(end_s - float(fault["at_s"]) for end_s, fault in zip(ends_s, pauses, strict=True))

    @property
    def overlap(self) -> float:
        """The share of a transfer that may leave before its prefill ends; above 0 its decision comes first."""
        return float(self.spec["serving"]["overlap"])

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
    def dilation(self) -> float:
        """Wall seconds of a second of the real system, in an emulated run."""
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
        decided = numbers(self.decided, "decided_s")
        moved = np.rint(self.of_requests("kv_bytes") / self.rate_scale) > 0
        sent = np.where(moved | (not self.emulated), numbers(self.decided, "transfer_started_s"), np.nan)
        received = sent + milliseconds["kv_transfer"]
        earliest_received = np.where(moved | (not self.emulated), received, decided)
        return Instants(
            arrived=arrived,
            prefill_start=prefill_start,
            prefill_end=prefill_start + milliseconds["prefill"],
            decided=decided,
            room=decided + np.nan_to_num(numbers(self.decided, "memory_wait_ms")) / 1e3,
            sent=sent,
            received=received,
            admitted=received + milliseconds["admission"],
            earliest_received=earliest_received,
            earliest_admitted=earliest_received + milliseconds["admission"],
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
    if not isinstance(spec, Mapping):
        raise StoreError(f"{folder}: manifest.json is damaged: spec is missing")
    world = spec.get("world")
    if world not in ("emulated", "analytic"):
        raise StoreError(f"{folder}: manifest.json is damaged: world: {world!r}")
    for section, names in (NEEDED | (NEEDED_EMULATED if world == "emulated" else {})).items():
        fields = spec.get(section)
        for name in names:
            if not isinstance(fields, Mapping) or name not in fields:
                raise StoreError(
                    f"{folder}: manifest.json: spec: {section}.{name} is missing; of another version, or damaged:"
                    " make the run again"
                )
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
        faults=[fault for fault in manifest.get("faults") or () if isinstance(fault, Mapping)],
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
    _refuse_other_than_a_file(folder, name)
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except OSError as problem:
        raise StoreError(f"{folder}: not a run folder: {name}: {problem.strerror}") from None
    except (ValueError, RecursionError) as problem:
        raise StoreError(f"{folder}: {name} is damaged: {problem}") from None
    if not isinstance(found, dict):
        raise StoreError(f"{folder}: {name} is damaged: not an object")
    return found


def _refuse_other_than_a_file(folder: Path, name: str) -> None:
    """A pipe in the place of a file would be waited for."""
    if (folder / name).exists() and not (folder / name).is_file():
        raise StoreError(f"{folder}: not a run folder: {name}: an ordinary file was expected")


def _read_columns(folder: Path, table: str) -> pd.DataFrame:
    _refuse_other_than_a_file(folder, f"{table}.parquet")
    try:
        found = pd.read_parquet(folder / f"{table}.parquet")
    except (OSError, ValueError, NotImplementedError) as problem:
        raise StoreError(f"{folder}: not a run folder: {table}.parquet: {problem}") from None
    if missing := [name for name in COLUMNS[table] if name not in found]:
        raise StoreError(f"{folder}: {table}.parquet is damaged: no column {missing[0]}")
    return found
