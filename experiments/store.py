"""Run folders: written whole or not at all, read back with pandas."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.machine import describe_machine, git_commit, versions
from experiments.spec import RunSpec
from experiments.summary import summarise
from scheduler import Outcome, RequestRecord

TABLES = ("requests", "decisions", "links")


class StoreError(ValueError):
    """A run folder that cannot be written or read; the message names it."""


def write_run(out: Path, spec: RunSpec, outcome: Outcome, verdict: Mapping[str, Any]) -> dict[str, Any]:
    """Write a run's folder beside its place and move it there in one step. Returns the summary.

    StoreError when `out` is there already (an empty folder may be) or cannot be written.
    """
    tables = {
        "requests": pd.DataFrame(
            [asdict(record) for record in outcome.requests], columns=[item.name for item in fields(RequestRecord)]
        ),
        "decisions": pd.DataFrame(outcome.decisions),
        "links": pd.DataFrame(outcome.links, columns=["time_s", "link", "utilisation", "bytes"]),
    }
    summary = summarise(tables["requests"], outcome.token_gaps_ms, outcome.duration_s, spec.slo)
    manifest = {
        "spec": spec.model_dump(mode="json"),
        "world": spec.world,
        "seed": spec.seed,
        "verdict": verdict["verdict"],
        "verdict_reasons": verdict["reasons"],
        "evidence": outcome.evidence,
        "versions": versions(),
        "git_commit": git_commit(),
        "machine": describe_machine(),
    }
    check_free(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
        try:
            for name, table in tables.items():
                table.to_parquet(partial / f"{name}.parquet", index=False)
            _write_json(partial / "summary.json", summary)
            _write_json(partial / "manifest.json", manifest)
            partial.chmod(0o755)
            os.rename(partial, out)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except OSError as problem:
        raise StoreError(f"{out}: {problem.strerror or problem}") from None
    return summary


def check_free(out: Path) -> None:
    """StoreError unless a run can be written to `out`: nothing is there, or an empty folder."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise StoreError(f"{out}: is there already; nothing was overwritten (choose another --out or remove it)")


def is_run(folder: Path) -> bool:
    return (folder / "manifest.json").is_file()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder. StoreError when it is none."""
    return _read_json(folder, "manifest.json")


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a run folder. StoreError when it is none."""
    return _read_json(folder, "summary.json")


def read_table(folder: Path, table: str) -> pd.DataFrame:
    """One table of a run folder: `requests`, `decisions` or `links`. StoreError when it is none."""
    try:
        return pd.read_parquet(folder / f"{table}.parquet")
    except (OSError, ValueError) as problem:
        raise StoreError(f"{folder}: not a run folder: {table}.parquet: {problem}") from None


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    except OSError as problem:
        raise StoreError(f"{folder}: not a run folder: {name}: {problem.strerror}") from None
    except ValueError as problem:
        raise StoreError(f"{folder}: {name} is damaged: {problem}") from None
    return found


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, sort_keys=True, default=str) + "\n", encoding="utf-8")
