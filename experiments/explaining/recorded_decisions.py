"""A run's folder as this package takes it: its requests and decisions, and what moved beside them, of either world."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.comparing import FRAME_B, PAYLOAD_B, read_connections
from experiments.running import RunSpec, StoreError, is_run, read_manifest, read_table, spec_of
from scenario import BackgroundFlow
from simulator import (
    DecodeSide,
    FluidTransport,
    PathChoice,
    RecordedPaths,
    SentRequest,
    recorded_background,
    recorded_paths,
)
from topologies import Fabric, Roles

NEEDED = ("request_id", "decided_s", "prefill_id", "decode_id", "tier", "kv_bytes", "predicted_kv_transfer_ms")


@dataclass(frozen=True)
class DecidedRun:
    """`decisions`: a row a decision in order of time, the columns of `decisions.parquet` and of its request's row:
    timestamp_s, input_length, output_length, kv_transfer_ms, admission_ms, ttft_ms, e2el_ms, status."""

    folder: Path
    spec: RunSpec
    fabric: Fabric
    roles: Roles
    requests: pd.DataFrame
    decisions: pd.DataFrame

    @property
    def emulated(self) -> bool:
        return self.spec.world == "emulated"

    @property
    def recorded(self) -> dict[int, int]:
        """The instance that each request was sent to."""
        ids = self.decisions[["request_id", "decode_id"]].itertuples(index=False)
        return {int(request_id): int(decode_id) for request_id, decode_id in ids}

    @cached_property
    def decision(self) -> dict[int, dict[str, Any]]:
        """Each row of `decisions` by the number of its request."""
        return {int(row["request_id"]): row for row in self.decisions.to_dict("records")}  # type: ignore[misc]

    @property
    def frames(self) -> float:
        """Bytes on the wire for one of KV: a shaper counts the headers of frames, the analytic world has none."""
        return FRAME_B / PAYLOAD_B if self.emulated else 1.0

    @property
    def decode_side(self) -> DecodeSide:
        serving = self.spec.serving
        return DecodeSide(self.spec.model.step_s, serving.batch_slots, serving.kv_memory_tokens)

    @cached_property
    def connections(self) -> pd.DataFrame:
        """The table `paths` of an emulated run."""
        return read_connections(self.folder)

    def started_s(self) -> NDArray[np.float64]:
        """When each of `decisions` began to send, seconds; when it was taken where nothing says."""
        decided_s: NDArray[np.float64] = self.decisions["decided_s"].to_numpy(dtype=float)
        if "transfer_started_s" not in self.decisions:
            return decided_s
        started_s = self.decisions["transfer_started_s"].to_numpy(dtype=float)
        return np.where(np.isnan(started_s), decided_s, np.maximum(started_s, decided_s))

    def sent(self) -> list[SentRequest]:
        """Every request that was sent, as it was."""
        rows = self.decisions
        ports = rows["source_ports"] if "source_ports" in rows else [None] * len(rows)
        stripes = [self.spec.serving.stripes if not isinstance(found, np.ndarray) else len(found) for found in ports]
        names = ("request_id", "prefill_id", "decode_id", "input_length", "output_length")
        request_id, source, target, inputs, outputs = (rows[name].tolist() for name in names)
        size_B = (rows["kv_bytes"] * self.frames).tolist()
        columns = (request_id, self.started_s().tolist(), source, target, size_B, stripes, inputs, outputs)
        return [SentRequest(*row) for row in zip(*columns, strict=True)]

    def background(self) -> list[BackgroundFlow]:
        """The background flows as they were: recorded, or planned again from the seed."""
        if self.emulated:
            return recorded_background(self._connection_rows())
        last_s = float(self.requests["timestamp_s"].max())
        return list(self.spec.scenario.background(self.fabric, self.roles, last_s))

    def network(self) -> tuple[PathChoice, FluidTransport]:
        """The choice of paths, and an empty fluid network that has it."""
        if self.emulated:
            choice: PathChoice = RecordedPaths(recorded_paths(self._connection_rows()), self.spec.seed)
            return choice, FluidTransport(self.fabric, choice)
        choice = PathChoice(self.spec.seed, self.spec.simulation.spreading)
        persistent = self.spec.serving.connections == "persistent"
        return choice, FluidTransport(self.fabric, choice, persistent, -self.spec.scenario.lead_s)

    def _connection_rows(self) -> list[dict[str, Any]]:
        names = ["owner", "number", "source", "target", "started_s", "ended_s", "rate_bps", "path"]
        rows: list[dict[str, Any]] = self.connections[names].to_dict("records")  # type: ignore[assignment]
        return rows


def read_decisions(folder: Path) -> DecidedRun:
    """Read a run of either world.

    StoreError when it is none, is of an older version, decided nothing, or had what the fluid model of one decision
    knows nothing of: faults, an overlap, waits for memory.
    """
    if not is_run(folder) and (folder / "runs").is_dir():
        raise StoreError(f"{folder}: is a sweep; name one of its runs, {folder / 'runs'}/...")
    spec = spec_of(folder, read_manifest(folder))
    if spec.faults.kinds:
        raise StoreError(f"{folder}: had faults, which the fluid model of one decision knows nothing of")
    if spec.serving.overlap:
        raise StoreError(f"{folder}: has serving.overlap, which the fluid model of one decision knows nothing of")
    requests, decisions = read_table(folder, "requests"), read_table(folder, "decisions")
    if missing := [name for name in NEEDED if name not in decisions]:
        raise StoreError(f"{folder}: decisions.parquet lacks {', '.join(missing)}: an older run; make it again")
    if decisions.empty:
        raise StoreError(f"{folder}: holds no decision")
    if "memory_wait_ms" in decisions and (decisions["memory_wait_ms"] > 0).any():
        raise StoreError(
            f"{folder}: has transfers that waited for KV memory, which the fluid model of one decision knows nothing of"
        )
    wanted = ["request_id", "timestamp_s", "input_length", "output_length", "status"]
    times = ["kv_transfer_ms", "admission_ms", "ttft_ms", "e2el_ms"]
    joined = decisions.merge(requests[[*wanted, *times]], on="request_id").sort_values(["decided_s", "request_id"])
    fabric, roles = spec.build()
    return DecidedRun(folder, spec, fabric, roles, requests, joined.reset_index(drop=True))
