"""Run folders whose records a test can tamper with, and the assertion that nothing in a folder breaks an invariant."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.checking import check_folder
from experiments.running import RunSpec, open_world, write_run
from topologies import build_fattree

TABLES = ("requests", "decisions", "links", "paths")

HEADER_BYTES = 24
"""Of each stripe, in the emulated folder made here."""

VALID = {"verdict": "valid", "reasons": []}


def assert_no_violation(folder: Path) -> None:
    """Every invariant of the history holds in a run's folder, or in every run of a sweep's."""
    assert [str(found) for those in check_folder(folder).values() for found in those] == []


@dataclass
class Records:
    """Everything in a run folder, to be changed and written somewhere else."""

    requests: pd.DataFrame
    decisions: pd.DataFrame
    links: pd.DataFrame
    paths: pd.DataFrame | None
    summary: dict[str, Any]
    manifest: dict[str, Any]

    @classmethod
    def of(cls, folder: Path) -> Records:
        tables = [
            pd.read_parquet(folder / f"{name}.parquet") if (folder / f"{name}.parquet").is_file() else None
            for name in TABLES
        ]
        documents = [json.loads((folder / f"{name}.json").read_text()) for name in ("summary", "manifest")]
        return cls(*tables, *documents)  # type: ignore[arg-type]

    def write(self, folder: Path) -> Path:
        folder.mkdir()
        for name in TABLES:
            table = getattr(self, name)
            if table is not None:
                table.to_parquet(folder / f"{name}.parquet")
        for name in ("summary", "manifest"):
            (folder / f"{name}.json").write_text(json.dumps(getattr(self, name)))
        return folder

    def put(self, row: int, table: str = "requests", **values: Any) -> None:
        """Change some columns of one row."""
        for column, value in values.items():
            frame = getattr(self, table)
            frame.loc[frame.index[row], column] = value

    def put_both(self, request_id: int, **values: Any) -> None:
        """Change some columns of a request and of its decision alike."""
        for table in (self.requests, self.decisions):
            for column, value in values.items():
                table.loc[table["request_id"] == request_id, column] = value


def analytic_folder(made: RunSpec, out: Path) -> Path:
    """The folder of an analytic run."""
    with open_world(made) as world:
        write_run(out, made, world.run(made.scenario), VALID)
    return out


def as_emulated(records: Records) -> None:
    """Give an analytic run what an emulated one has beside: bytes on the wire, and a path for every connection."""
    spec = records.manifest["spec"]
    spec["world"] = records.manifest["world"] = "emulated"
    records.manifest["evidence"] = {}
    rate_scale, stripes = spec["emulation"]["rate_scale"], spec["serving"]["stripes"]
    decisions = records.decisions
    sent = (decisions["kv_bytes"] / rate_scale).round() + stripes * HEADER_BYTES
    decisions["wire_bytes"] = sent.where(decisions["kv_bytes"] > 0)
    records.manifest["evidence"]["kv_wire_bytes"] = int(decisions["wire_bytes"].sum())
    took_s = decisions["request_id"].map(records.requests.set_index("request_id")["kv_transfer_ms"]) / 1e3
    rows = []
    for decision, lasted_s in zip(decisions.to_dict("records"), took_s, strict=True):
        if decision["kv_bytes"] > 0:
            rows += _connections(spec, {str(name): value for name, value in decision.items()}, float(lasted_s))
    records.paths = pd.DataFrame(rows)


def _connections(spec: dict[str, Any], decision: dict[str, Any], lasted_s: float) -> list[dict[str, Any]]:
    fabric = build_fattree(RunSpec.model_validate(spec).fabric)
    source, target, stripes = decision["prefill_id"], decision["decode_id"], spec["serving"]["stripes"]
    paths = fabric.paths(source, target)
    started_s = decision["transfer_started_s"]
    made = []
    for stripe in range(stripes):
        path = (decision["request_id"] + stripe) % len(paths)
        made.append(
            {
                **{"owner": "transfer", "number": decision["request_id"], "connection": stripe},
                **{"started_s": started_s, "ended_s": started_s + lasted_s, "bytes": decision["kv_bytes"] / stripes},
                "rate_bps": math.nan,
                **{"source": source, "target": target, "tier": fabric.tier(source, target)},
                **{"source_port": 20_000 + stripe, "equal_paths": len(paths), "path": path},
                "links": [fabric.links[link].name for link in paths[path]],
            }
        )
    return made
