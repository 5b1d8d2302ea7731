"""A sweep: many runs of one question, a folder each, on as few bring-ups as their fabrics allow."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from experiments.spec import RunSpec, SpecError
from experiments.store import StoreError, check_writable, is_run, is_taken, read_manifest, read_table, write_run
from experiments.summary import slo_met
from experiments.worlds import open_world, same_fabric, verdict_of
from workloads import WorkloadSpec, load_requests
from workloads.scenario import SloSpec

RUNS = "runs"
DESCRIPTION = "sweep.json"
DRAIN_S = 5.0
"""What a run is expected to take beyond its last arrival, for the time left on the progress bar."""


@dataclass(frozen=True)
class Condition:
    """One run of a sweep: its folder's name, its specification, and the labels that the analysis groups by."""

    name: str
    spec: RunSpec
    labels: Mapping[str, Any]


def run_sweep(question: str, conditions: Sequence[Condition], out: Path, *, resume: bool, console: Console) -> None:
    """Run what is not there yet. StoreError when `out` holds something else, or something and `resume` is not set."""
    description = _describe(question, conditions)
    _check_claim(description, out, resume)
    missing = [condition for condition in conditions if not is_run(out / RUNS / condition.name)]
    if len(missing) < len(conditions):
        console.print(f"{len(conditions) - len(missing)} of {len(conditions)} runs are there already")
    expected_s = _expected_s(missing)
    with _progress(console) as progress:
        task = progress.add_task("starting", total=sum(expected_s.values()) or 1)
        before_s = 0.0
        for group in _groups(missing):
            first = group[0].spec
            note = _Narrator(progress, task, console)
            note.say(f"bringing up the fabric of the {first.world} world")
            with open_world(first, note.say) as world:
                for condition in group:
                    place = f"{len(conditions) - len(missing) + missing.index(condition) + 1}/{len(conditions)}"
                    note.say(f"{place}  {condition.name}")
                    started_s = time.monotonic()
                    share_s, base_s = expected_s[condition.name], before_s

                    def advance(
                        _: int, started_s: float = started_s, share_s: float = share_s, base_s: float = base_s
                    ) -> None:
                        progress.update(task, completed=base_s + min(time.monotonic() - started_s, share_s))

                    outcome = world.run(condition.spec.scenario, advance)
                    verdict = verdict_of(condition.spec, outcome)
                    _claim(description, out)
                    write_run(out / RUNS / condition.name, condition.spec, outcome, verdict)
                    before_s += share_s
                    progress.update(task, completed=before_s)
                    note.finished(place, condition.name, verdict, time.monotonic() - started_s)
        progress.update(task, description="done")


def read_sweep(out: Path) -> pd.DataFrame:
    """Every request of every run of a sweep in one frame: the columns of `requests.parquet` and the sweep's labels.

    Adds `run` (the run's name), `verdict` and `slo_met`. StoreError when `out` is no sweep.
    """
    frames = []
    for name, labels in _description(out)["runs"].items():
        folder = out / RUNS / name
        if is_run(folder):
            table, manifest = read_table(folder, "requests"), read_manifest(folder)
            slo = SloSpec.model_validate(manifest["spec"]["slo"])
            frames.append(table.assign(run=name, verdict=manifest["verdict"], slo_met=slo_met(table, slo), **labels))
    if not frames:
        raise StoreError(f"{out}: the sweep holds no finished run")
    return pd.concat(frames, ignore_index=True)


def _describe(question: str, conditions: Sequence[Condition]) -> dict[str, Any]:
    return {
        "question": question,
        "runs": {condition.name: dict(condition.labels) for condition in conditions},
        "specs": {condition.name: condition.spec.model_dump(mode="json") for condition in conditions},
    }


def _check_claim(description: Mapping[str, Any], out: Path, resume: bool) -> None:
    """SpecError or StoreError unless the sweep may be begun or continued in `out`. Nothing is written yet."""
    if is_taken(out):
        if not resume:
            raise StoreError(f"{out}: is there already (add --resume to continue it, or choose another --out)")
        before = _description(out)
        if before != description:
            raise SpecError(f"{out}: holds another sweep: {_difference(before, description)}")
    check_writable(Path(os.path.abspath(out)), out)


def _claim(description: Mapping[str, Any], out: Path) -> None:
    """Write down what the folder is for, once there is a first run to keep: a sweep that never began leaves nothing."""
    place = out / DESCRIPTION
    if place.exists():
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        unfinished = out / f".{DESCRIPTION}"
        unfinished.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        unfinished.rename(place)
    except OSError as problem:
        raise StoreError(f"{out}: {problem.strerror or problem}") from None


def _description(out: Path) -> dict[str, Any]:
    try:
        found = json.loads((out / DESCRIPTION).read_text(encoding="utf-8"))
    except OSError as problem:
        raise StoreError(f"{out}: not a sweep: {DESCRIPTION}: {problem.strerror}") from None
    except ValueError as problem:
        raise StoreError(f"{out}: {DESCRIPTION} is damaged: {problem}") from None
    if not isinstance(found, dict) or not isinstance(found.get("runs"), dict):
        raise StoreError(f"{out}: {DESCRIPTION} is damaged: not the description of a sweep")
    return found


def _difference(before: Any, after: Any, place: str = "") -> str:
    """The first place at which two descriptions differ, in words."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(set(before) | set(after)):
            inner = f"{place}.{key}" if place else str(key)
            if key not in before or key not in after:
                return f"{inner} is only in the {'new' if key not in before else 'old'} one"
            if before[key] != after[key]:
                return _difference(before[key], after[key], inner)
    return f"{place} was {before!r}, now {after!r}"


def _groups(conditions: Sequence[Condition]) -> Iterator[list[Condition]]:
    """Runs in their order, gathered by the fabric they can share."""
    left = list(conditions)
    while left:
        group = [condition for condition in left if same_fabric(condition.spec, left[0].spec)]
        left = [condition for condition in left if condition not in group]
        yield group


def _expected_s(conditions: Sequence[Condition]) -> dict[str, float]:
    """How long each run will take. Reads every workload, so WorkloadError for one that cannot be read."""
    span_s: dict[tuple[WorkloadSpec, int], float] = {}
    expected_s = {}
    for condition in conditions:
        spec = condition.spec
        key = (spec.workload, spec.seed)
        if key not in span_s:
            span_s[key] = load_requests(spec.scenario)[-1].timestamp_s
        pace = spec.emulation.time_dilation if spec.world == "emulated" else 0.01
        expected_s[condition.name] = (span_s[key] + DRAIN_S) * pace
    return expected_s


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


class _Narrator:
    """Says what is running: on the progress bar of a terminal, in lines anywhere else."""

    def __init__(self, progress: Progress, task: Any, console: Console) -> None:
        self._progress = progress
        self._task = task
        self._console = console

    def say(self, text: str) -> None:
        self._progress.update(self._task, description=text)

    def finished(self, place: str, name: str, verdict: Mapping[str, Any], took_s: float) -> None:
        why = f": {verdict['reasons'][0]}" if verdict["reasons"] else ""
        line = f"{place:>6}  {name}  {took_s:.0f} s  {verdict['verdict']}{why}"
        self._console.print(line, highlight=False, soft_wrap=True)
