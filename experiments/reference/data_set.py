"""A data set of reference runs: two Parquet tables and a data card in a folder.

`runs.parquet` has a row a run: what it was asked, and what made it. `requests.parquet` has a row a request, with what a
comparison needs and nothing else, so that hundreds of thousands of requests are a few megabytes: times in whole
microseconds, no links, no packets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from experiments.running import (
    DESCRIPTION,
    RUNS,
    SpecError,
    StoreError,
    is_run,
    new_files,
    read_description,
    read_manifest,
    read_table,
    run_columns,
)

CARD = "README.md"
REQUEST_TABLE, RUN_TABLE = "requests.parquet", "runs.parquet"

READ = ("request_id", "decode_id", "status", "ttft_ms", "kv_transfer_ms")
"""Columns of a run's `requests.parquet` that a reference keeps; times become whole microseconds."""

US_OF_MS = 1e3


@dataclass(frozen=True)
class DataSet:
    """Reference runs.

    `runs`: a row a run, index its number; columns `question`, `name`, `world`, `policy`, `seed`, `verdict`,
    `snapshots`, `correlation_s`, `labels` and `spec` (JSON), `source` and `commit` of the code, `machine`. `rows`: a
    row a request, columns `run` (that number) and those of `READ`, times in milliseconds. `place`: where it is from.
    """

    place: Path
    runs: pd.DataFrame
    rows: pd.DataFrame

    @property
    def questions(self) -> list[str]:
        return list(dict.fromkeys(self.runs["question"]))

    def requests(self, question: str) -> pd.DataFrame:
        """The requests of a question's runs in columns of `experiments.read_sweep`: `run` is the run's name, the labels
        of the sweep have a column each. Empty where the reference has none."""
        runs = self.runs[self.runs["question"] == question]
        labels = pd.DataFrame([json.loads(text) for text in runs["labels"]], index=runs.index)
        about = labels.assign(
            **{name: runs[name] for name in ("policy", "verdict", "snapshots", "correlation_s")}, run=runs["name"]
        )
        rows = self.rows[self.rows["run"].isin(runs.index)]
        joined = about.loc[rows["run"]].reset_index(drop=True)
        return pd.concat([rows.drop(columns="run").reset_index(drop=True), joined], axis=1)

    def specs(self, question: str) -> dict[str, dict[str, Any]]:
        """The specification of each of a question's runs, by name."""
        runs = self.runs[self.runs["question"] == question]
        return {name: json.loads(spec) for name, spec in zip(runs["name"], runs["spec"], strict=True)}

    def labels(self, question: str) -> dict[str, dict[str, Any]]:
        """The labels that a sweep gives each of a question's runs, by name."""
        runs = self.runs[self.runs["question"] == question]
        return {name: json.loads(labels) for name, labels in zip(runs["name"], runs["labels"], strict=True)}

    def code(self, question: str) -> dict[str, str]:
        """`source`, the digest of the code that made a question's runs, and its `commit`; several have commas."""
        runs = self.runs[self.runs["question"] == question]
        return {name: ", ".join(dict.fromkeys(runs[name])) for name in ("source", "commit")}


def default_place() -> Path:
    """The data set of the repository. StoreError where this is no checkout: a wheel does not hold it."""
    place = Path(__file__).parents[2] / "docs" / "data" / "reference"
    if not (place / RUN_TABLE).is_file():
        raise StoreError(
            "reference: only a checkout of the repository has it, in docs/data/reference (name that folder, or make one"
            " with `netkv reference build --out DIR`)"
        )
    return place


def open_reference(named: str) -> DataSet:
    """The data set that `--against` names: `reference` for the repository's, a folder of one, or another sweep's.

    StoreError when it is none of these.
    """
    place = default_place() if named == "reference" else Path(named)
    return of_sweeps([place]) if (place / DESCRIPTION).is_file() else read_data_set(place)


def read_data_set(place: Path) -> DataSet:
    """The data set in a folder. StoreError when it is none, or damaged."""
    try:
        runs = parquet.read_table(place / RUN_TABLE).to_pandas().set_index("number")
        rows = parquet.read_table(place / REQUEST_TABLE).to_pandas()
        times = {f"{name}_ms": rows[f"{name}_us"].astype(float) / US_OF_MS for name in ("ttft", "kv_transfer")}
        rows = rows.drop(columns=["ttft_us", "kv_transfer_us"]).assign(**times)
        rows["status"] = rows["status"].astype(str)
        return DataSet(place, runs, rows)
    except FileNotFoundError:
        raise StoreError(f"{place}: neither a sweep ({DESCRIPTION}) nor reference results ({RUN_TABLE})") from None
    except (OSError, pa.ArrowException, KeyError, ValueError) as problem:
        raise StoreError(f"{place}: damaged reference results: {problem}") from None


def of_sweeps(sweeps: Iterable[Path]) -> DataSet:
    """The runs of some sweeps' folders. StoreError when one is none, holds no finished run or replays a trace."""
    runs: list[dict[str, Any]] = []
    tables: list[pd.DataFrame] = []
    place = Path()
    for place in sweeps:
        for run, table in _runs_of(place):
            runs.append(run)
            tables.append(table.assign(run=len(runs) - 1))
    if not runs:
        raise StoreError(f"{place}: the sweep holds no finished run")
    known = pd.DataFrame(runs)
    known.index.name = "number"
    return DataSet(place, known, pd.concat(tables, ignore_index=True))


def _runs_of(sweep: Path) -> Iterable[tuple[dict[str, Any], pd.DataFrame]]:
    described = read_description(sweep)
    code: Mapping[str, str] = described.get("code", {})
    for name, labels in described["runs"].items():
        folder = sweep / RUNS / name
        if "control" in labels or not is_run(folder):
            continue
        manifest = read_manifest(folder)
        spec = manifest["spec"]
        if spec["workload"]["trace"] is not None:
            raise StoreError(f"{folder}: replays a trace, whose data a reference does not hold (run a profile instead)")
        machine = manifest.get("machine", {})
        yield (
            {
                **{"question": described["question"], "name": name, "world": spec["world"], "policy": spec["policy"]},
                **{"seed": spec["seed"], **run_columns(folder, manifest)},
                "labels": json.dumps(labels),
                "spec": json.dumps(spec),
                "source": code.get("source", "unknown"),
                "commit": str(manifest.get("git_commit") or "unknown"),
                "machine": ", ".join(f"{key} {value}" for key, value in machine.items()),
            },
            read_table(folder, "requests", READ),
        )


def pack(sweeps: Sequence[Path], out: Path, card: Callable[[DataSet], str]) -> DataSet:
    """Write the runs of some sweeps, and what the card says of them, into a folder. Returns the data set.

    The same sweeps give the same bytes. StoreError as `of_sweeps`, or when `out` cannot be written.
    """
    found = of_sweeps(sweeps)
    with new_files(out) as partial:
        runs = pa.Table.from_pandas(found.runs.reset_index(), preserve_index=False)
        parquet.write_table(runs, partial / RUN_TABLE, compression="zstd", compression_level=19)
        parquet.write_table(
            _packed(found.rows),
            partial / REQUEST_TABLE,
            compression="zstd",
            compression_level=19,
            use_dictionary=["status"],
            column_encoding={
                **dict.fromkeys(("run", "request_id"), "DELTA_BINARY_PACKED"),
                **dict.fromkeys(("ttft_us", "kv_transfer_us"), "BYTE_STREAM_SPLIT"),
                "decode_id": "PLAIN",
            },
        )
        (partial / CARD).write_text(card(found), encoding="utf-8")
    return read_data_set(out)


def _packed(rows: pd.DataFrame) -> pa.Table:
    """The requests in few bytes: small integers, and times in whole microseconds, null where they never came."""

    def micros(name: str) -> pa.Array:
        values = rows[name].to_numpy(dtype=float) * US_OF_MS
        unknown = np.isnan(values)
        return pa.array(np.where(unknown, 0, np.rint(values)).astype(np.int32), mask=unknown)

    return pa.table(
        {
            "run": pa.array(rows["run"].to_numpy(np.int32)),
            "request_id": pa.array(rows["request_id"].to_numpy(np.int32)),
            "decode_id": pa.array(rows["decode_id"].to_numpy(np.int32)),
            "status": pa.array(rows["status"].astype(str)).dictionary_encode(),
            "ttft_us": micros("ttft_ms"),
            "kv_transfer_us": micros("kv_transfer_ms"),
        }
    )


def check_question(data: DataSet, question: str) -> None:
    """SpecError unless the data set has runs of a question."""
    if question not in data.questions:
        raise SpecError(f"{data.place}: has no runs of {question}; it has {', '.join(data.questions)}")
