"""An emulated run folder as the simulator takes it: transfers, background and paths as they really were."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.running import PATHS, RunSpec, StoreError, read_manifest, read_table, spec_of
from scenario import BackgroundFlow
from simulator import (
    ClosedFormTransport,
    FluidTransport,
    PathChoice,
    RecordedPaths,
    RecordedTransfer,
    Transport,
    recorded_background,
    recorded_paths,
    replay_recorded,
)
from topologies import Fabric

FRAME_B = 1514
PAYLOAD_B = 1448
"""Of a full Ethernet frame, and of that what TCP with timestamps delivers (RFC 7323): the shaper counts the former."""

REPLAY = "fluid_frames"
"""The model that errors are against: what a transfer would have taken with no delay but its bytes."""

WITH_LATENCY = "fluid_latency"
"""The same with what the emulation adds to every transfer (`RecordedRun.latency_s`), which a real fabric does not."""

ON_PATHS = "fluid_paths"
"""The same without the headers of frames, as the fluid model counts bytes when it decides for itself."""

REPLAYED = ("closed_form", "fluid_ideal", ON_PATHS, REPLAY)
MODELS = (*REPLAYED, WITH_LATENCY)
"""Models from the roughest to the nearest: tier bandwidth over an even share; max-min with ideal spreading; with the
paths that were taken; with the headers of frames as well; with latency."""

NEEDED = ("transfer_started_s", "source_ports", "paths")
NEEDED_OF_PATHS = (
    *("owner", "number", "connection", "source", "target", "source_port", "tier", "equal_paths", "path", "links"),
    *("started_s", "ended_s", "bytes", "rate_bps"),
)


@dataclass(frozen=True)
class RecordedRun:
    """`transfers`: a row a transfer that moved bytes: request_id, start_s, taken_s, kv_bytes, source, target, tier,
    connections, prefilled_s. `connections`: the table `paths`. `idle_transfer_s`: of a transfer of next to nothing on
    the idle fabric, by tier."""

    folder: Path
    spec: RunSpec
    verdict: str
    fabric: Fabric
    transfers: pd.DataFrame
    connections: pd.DataFrame
    idle_transfer_s: dict[str, float] = field(default_factory=dict)

    def replayed_s(self, model: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """How long each of `transfers` would have taken on one of the models of `REPLAYED`, seconds."""
        frames = FRAME_B / PAYLOAD_B if model == REPLAY else 1.0
        rows = self.transfers
        recorded = [
            RecordedTransfer(*row)
            for row in zip(
                *(rows[name].tolist() for name in ("request_id", "start_s", "source", "target")),
                (rows["kv_bytes"] * frames).tolist(),
                rows["connections"].tolist(),
                [self.spec.serving.overlap] * len(rows),
                rows["prefilled_s"].tolist(),
                strict=True,
            )
        ]
        finish_s = replay_recorded(self._transport(model), recorded, self._background())
        return np.array([finish_s[one.request_id] - max(one.start_s, 0.0) for one in recorded])

    def latency_s(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """What each of `transfers` takes beside its bytes, seconds of the real system: a transfer of next to nothing on
        the idle fabric before the run, by tier, and one frame on every link of a path but the slowest, which the next
        frame of the transfer follows. NaN in a run that did not measure the former."""
        links, scale = self.fabric.links, self.spec.emulation.rate_scale
        found = []
        for source, target, tier in self.transfers[["source", "target", "tier"]].itertuples(index=False):
            frames_s = [8 * FRAME_B * scale / links[link].capacity_bps for link in self.fabric.paths(source, target)[0]]
            found.append(self.idle_transfer_s.get(str(tier), math.nan) + sum(frames_s) - max(frames_s))
        return np.array(found)

    def _transport(self, model: str) -> Transport:
        if model == "closed_form":
            return ClosedFormTransport(self.fabric)
        if model == "fluid_ideal":
            return FluidTransport(self.fabric, PathChoice(self.spec.seed, "ideal"))
        return FluidTransport(self.fabric, RecordedPaths(recorded_paths(self._rows()), self.spec.seed))

    def _background(self) -> list[BackgroundFlow]:
        return recorded_background(self._rows())

    def _rows(self) -> list[dict[str, Any]]:
        names = ("owner", "number", "source", "target", "started_s", "ended_s", "rate_bps", "path")
        rows: list[dict[str, Any]] = self.connections[list(names)].to_dict("records")  # type: ignore[assignment]
        return rows


def read_recorded(folder: Path) -> RecordedRun:
    """Read an emulated run. StoreError when it is none, moved nothing, or was made before paths were recorded."""
    manifest = read_manifest(folder)
    spec = spec_of(folder, manifest)
    if spec.world != "emulated":
        raise StoreError(f"{folder}: is a run of the {spec.world} world; the first folder must be of the emulated one")
    decisions = read_table(folder, "decisions")
    connections = read_connections(folder)
    if missing := [name for name in NEEDED if name not in decisions.columns]:
        raise StoreError(f"{folder}: decisions.parquet lacks {', '.join(missing)}: no KV moved, or an older run")
    requests = read_table(folder, "requests")
    transfers = _transfers(decisions, requests)
    if transfers.empty:
        raise StoreError(f"{folder}: no KV transfer was finished")
    idle_s = {tier: took_ms / 1e3 for tier, took_ms in manifest["evidence"].get("idle_transfer_ms", {}).items()}
    return RecordedRun(folder, spec, str(manifest["verdict"]), spec.build()[0], transfers, connections, idle_s)


def _transfers(decisions: pd.DataFrame, requests: pd.DataFrame) -> pd.DataFrame:
    known = requests.set_index("request_id")
    prefilled = known["timestamp_s"] + (known["queue_ms"] + known["prefill_ms"]) / 1e3
    of = decisions["request_id"]
    rows = decisions.assign(taken_s=of.map(known["kv_transfer_ms"] / 1e3), prefilled_s=of.map(prefilled))
    rows = rows[(rows["kv_bytes"] > 0) & rows["taken_s"].notna() & rows["transfer_started_s"].notna()]
    named = rows.rename(columns={"transfer_started_s": "start_s", "prefill_id": "source", "decode_id": "target"})
    named = named.assign(connections=[len(ports) for ports in named["source_ports"]])
    columns = ["request_id", "start_s", "taken_s", "kv_bytes", "source", "target", "tier", "connections", "prefilled_s"]
    return named[columns].sort_values("start_s").reset_index(drop=True)


def read_connections(folder: Path) -> pd.DataFrame:
    """The table `paths` of an emulated run. StoreError when the folder is no run, or has no such table."""
    read_manifest(folder)
    if not (folder / f"{PATHS}.parquet").is_file():
        raise StoreError(f"{folder}: has no record of paths: an analytic run, an older one, or nothing was sent")
    found = read_table(folder, PATHS)
    if missing := [name for name in NEEDED_OF_PATHS if name not in found.columns]:
        raise StoreError(f"{folder}: paths.parquet lacks {', '.join(missing)}: an older run; make it again")
    return found.assign(rate_bps=found["rate_bps"].astype(float))


def measured_models(table: pd.DataFrame) -> list[str]:
    """Those of `MODELS` that say something of a table's transfers: the last needs runs that measured their latency."""
    return [model for model in MODELS if table[model].notna().any()]


def sharers(transfers: pd.DataFrame, connections: pd.DataFrame) -> list[int]:
    """How many connections of others were on a link of each transfer while it lasted, at the most such link."""
    crossings = connections.explode("links").dropna(subset=["links"])
    by_link: dict[Any, pd.DataFrame] = dict(tuple(crossings.groupby("links")))
    mine = crossings[crossings["owner"] == "transfer"].groupby("number")["links"].unique()
    counts = []
    for request_id, start_s, taken_s in transfers[["request_id", "start_s", "taken_s"]].itertuples(index=False):
        most = 0
        for link in mine.get(request_id, []):
            others = by_link[link]
            foreign = (others["owner"] != "transfer") | (others["number"] != request_id)
            at_once = (others["started_s"] < start_s + taken_s) & (others["ended_s"] > start_s)
            most = max(most, int((foreign & at_once).sum()))
        counts.append(most)
    return counts
