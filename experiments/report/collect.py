"""What a folder holds: sweeps and single runs, found no deeper than two levels down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.questions import workload_name, written
from experiments.running import (
    DESCRIPTION,
    RUNS,
    RunSpec,
    StoreError,
    is_run,
    present,
    read_description,
    read_manifest,
    read_sweep,
    read_table,
    run_columns,
    slo_met,
    spec_of,
)


@dataclass(frozen=True)
class Run:
    """One finished run: its folder, its manifest and its specification."""

    name: str
    folder: Path
    manifest: dict[str, Any]
    spec: RunSpec

    @property
    def verdict(self) -> str:
        return str(self.manifest["verdict"])


@dataclass(frozen=True)
class CollectedSweep:
    """A question that was asked, or a single run (whose question is ""): its runs and all their requests."""

    name: str
    folder: Path
    question: str
    runs: tuple[Run, ...]

    @property
    def emulated(self) -> bool:
        return any(run.spec.world == "emulated" for run in self.runs)

    @cached_property
    def requests(self) -> pd.DataFrame:
        """Every request of every run, with the labels of the sweep, `run`, `verdict` and `slo_met`."""
        if self.question:
            return read_sweep(self.folder)
        (run,) = self.runs
        table = read_table(run.folder, "requests")
        labels = {
            "world": run.spec.world,
            "workload": workload_name(run.spec),
            "refresh_s": written(run.spec.oracle.refresh_s),
            "seed": run.spec.seed,
        }
        return table.assign(
            run=run.name, slo_met=slo_met(table, run.spec.slo), **run_columns(run.folder, run.manifest), **labels
        )


def collect(folder: Path) -> list[CollectedSweep]:
    """The sweeps and single runs of a folder, by name. StoreError when there is none, or one of them is damaged."""
    if not folder.is_dir():
        raise StoreError(f"{folder}: {'is a file, not a folder' if folder.exists() else 'no such folder'}")
    found = list(_walk(folder, 2))
    if not found:
        raise StoreError(f"{folder}: holds no finished run and no sweep with one")
    return found


def _walk(folder: Path, deeper: int) -> Iterator[CollectedSweep]:
    if is_run(folder):
        yield CollectedSweep(folder.name, folder, "", (_read_run(folder),))
    elif (folder / DESCRIPTION).is_file():
        description = read_description(folder)
        runs = tuple(_read_run(folder / RUNS / name) for name in present(folder, description["runs"]))
        if runs:
            yield CollectedSweep(folder.name, folder, str(description.get("question")), runs)
    elif deeper:
        for place in _folders(folder):
            yield from _walk(place, deeper - 1)


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder by name; hidden ones are unfinished runs."""
    try:
        return sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))
    except OSError as problem:
        raise StoreError(f"{folder}: {problem.strerror}") from None


def _read_run(folder: Path) -> Run:
    manifest = read_manifest(folder)
    return Run(folder.name, folder, manifest, spec_of(folder, manifest))
