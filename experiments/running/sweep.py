"""A sweep: many runs of one question, a folder each, on as few bring-ups as their fabrics allow."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from experiments.running.cluster import existing_cluster
from experiments.running.code_identity import code_identity, digest_of
from experiments.running.errors import StoreError
from experiments.running.local_processes import LocalProcesses
from experiments.running.run_process import FinishedRun
from experiments.running.run_spec import RunSpec
from experiments.running.store import MEASURED, is_run, read_json, read_manifest, read_summary, read_table, write_files
from experiments.running.summary import slo_met
from experiments.running.sweep_folder import CODE, OWN, hold, present, read_description, scratch
from experiments.running.sweep_folder import DESCRIPTION as DESCRIPTION
from experiments.running.sweep_folder import RUNS as RUNS
from experiments.running.wall_time import read_wall_time, write_wall_time
from experiments.running.world_runner import WorldRunner
from experiments.running.worlds import open_world, same_fabric
from scenario import CongestionSpec, SloSpec, WorkloadSpec, load_requests
from scheduler import own_source

if TYPE_CHECKING:
    import pandas as pd

ORDER_SEED = 2606
"""Of the order in which a sweep makes its emulated runs; `sweep.json` records it."""

DRAIN_S = 5.0
"""What a run is expected to take beyond its last arrival, for the time left on the progress bar."""


@dataclass(frozen=True)
class Condition:
    """One run of a sweep: its folder's name, its specification, and the labels that the analysis groups by."""

    name: str
    spec: RunSpec
    labels: Mapping[str, Any]


CONTROL = "control"
"""The label of a run that repeats another one of its sweep; no table counts it."""


def control_of(condition: Condition) -> Condition:
    """The same run once more."""
    return Condition(f"{condition.name}-{CONTROL}", condition.spec, {**condition.labels, CONTROL: True})


def run_sweep(
    question: str,
    conditions: Sequence[Condition],
    out: Path,
    *,
    resume: bool,
    console: Console,
    jobs: int = 1,
    dask: str | None = None,
) -> None:
    """Run what is not there yet: in this process, in `jobs` local ones, or on the Dask cluster at the address `dask`.

    Finished runs are kept, whatever ends the sweep. StoreError when `out` holds something else, or something and
    `resume` is not set; SpecError when it holds another sweep; ClusterError when there is no cluster that can run it;
    and whatever ends a run.
    """
    with hold(out, _describe(question, conditions), resume=resume):
        there = present(out, [condition.name for condition in conditions])
        missing = [condition for condition in in_random_order(conditions) if condition.name not in there]
        if there:
            console.print(f"{len(there)} of {len(conditions)} runs are there already")
        if not missing:
            return
        with _Narrator(missing, len(conditions), console) as narrator:
            runs = _here(missing, narrator) if jobs == 1 and dask is None else _elsewhere(missing, narrator, jobs, dask)
            spent = read_wall_time(out)
            with scratch(out), closing(runs):
                for condition, run in runs:
                    writing_s = -time.monotonic()
                    write_files(out / RUNS / condition.name, run.files)
                    spent.add(run.wall_s, writing_s + time.monotonic())
                    write_wall_time(spent, out)
                    narrator.finished(condition.name, run)
        console.print(str(spent), highlight=False, soft_wrap=True)


def in_random_order(conditions: Sequence[Condition]) -> list[Condition]:
    """Emulated runs in random order within each block of neighbours that differ in policy and refresh interval alone.

    A machine that gets slower in the course of a sweep then favours no policy. `ORDER_SEED` decides, so a sweep that is
    resumed keeps its order. Analytic runs stay where they are: their machine does not matter.
    """
    drawn = np.random.default_rng(ORDER_SEED)
    ordered: list[Condition] = []
    for _, block in groupby(conditions, key=lambda one: {**one.labels, "refresh_s": None}):
        runs = list(block)
        if runs[0].spec.world == "emulated":
            runs = [runs[place] for place in drawn.permutation(len(runs))]
        ordered += runs
    return ordered


def _here(conditions: Sequence[Condition], narrator: _Narrator) -> Generator[tuple[Condition, FinishedRun]]:
    with WorldRunner(open_world) as runner:
        for condition in by_fabric(conditions):
            runner.world_for(condition.spec, narrator.say)
            narrator.started(condition.name)
            yield condition, runner.run(condition.spec, progress=narrator.advance)


def _elsewhere(
    conditions: Sequence[Condition], narrator: _Narrator, jobs: int, dask: str | None
) -> Generator[tuple[Condition, FinishedRun]]:
    named = {condition.name: condition for condition in by_fabric(conditions)}
    specs = {name: condition.spec for name, condition in named.items()}
    with nullcontext(LocalProcesses(jobs)) if dask is None else existing_cluster(dask) as processes:
        for name, run in processes.run_all(specs, narrator.say):
            yield named[name], run


def read_sweep(out: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Every request of every run of a sweep in one frame: the columns of `requests.parquet` and the sweep's labels.

    Adds `run` (the run's name), `slo_met` and the columns of `run_columns`. `decision_us` of an analytic run is its
    median, as only the wall clock knows it. Control runs are left out: see `read_control`. StoreError when `out` is no
    sweep.

    `columns`: of `requests.parquet` to read, where a sweep is large; None for all. What `slo_met` needs must be among
    them.
    """
    import pandas as pd

    frames = _frames(out, control=False, columns=columns)
    if not frames:
        raise StoreError(f"{out}: the sweep holds no finished run")
    return pd.concat(frames, ignore_index=True)


def read_control(out: Path) -> pd.DataFrame | None:
    """The requests of a sweep's control run, in the columns of `read_sweep`; None where it has none."""
    frames = _frames(out, control=True)
    return frames[0] if frames else None


def _frames(out: Path, *, control: bool, columns: Sequence[str] | None = None) -> list[pd.DataFrame]:
    frames = []
    for name, given in read_description(out)["runs"].items():
        if not isinstance(given, dict):
            raise StoreError(f"{out}: {DESCRIPTION} is damaged: runs.{name}: an object of labels was expected")
        labels = dict(given)
        if bool(labels.pop(CONTROL, False)) != control:
            continue
        folder = out / RUNS / name
        if is_run(folder):
            frames.append(_frame(folder, labels, columns))
    return frames


def _frame(folder: Path, labels: Mapping[str, Any], columns: Sequence[str] | None) -> pd.DataFrame:
    """The requests of one run. StoreError where its folder holds what no run writes."""
    table, manifest = read_table(folder, "requests", columns), read_manifest(folder)
    try:
        if (took_us := _measured_decision_us(folder)) is not None:
            table["decision_us"] = took_us
        slo = SloSpec.model_validate(manifest["spec"]["slo"])
        of_run = {"run": folder.name, "slo_met": slo_met(table, slo), **run_columns(folder, manifest), **labels}
        return _with_columns(table, of_run)
    except StoreError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as problem:
        raise StoreError(
            f"{folder}: damaged: holds what no run writes ({type(problem).__name__}: {problem}): make the run again"
        ) from None


def _with_columns(table: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """As `table.assign(**columns)`, with all new columns added at a time."""
    import pandas as pd

    new = pd.DataFrame({name: value for name, value in columns.items() if name not in table}, index=table.index)
    old = {name: value for name, value in columns.items() if name in table}
    return pd.concat([table.assign(**old) if old else table, new], axis=1)


def run_columns(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What every request of a run has in common: its `verdict`, the telemetry `snapshots` that its decisions were based
    on (NaN where nobody counted them), and `correlation_s`, the time scale of its congestion."""
    snapshots = read_summary(folder).get("oracle_snapshots")
    return {
        "verdict": manifest["verdict"],
        "snapshots": math.nan if snapshots is None else float(snapshots),
        "correlation_s": CongestionSpec.model_validate(manifest["spec"]["congestion"]).correlation_s,
    }


def _measured_decision_us(folder: Path) -> float | None:
    """Median wall time of an analytic run's decisions; None for a run whose requests hold their own."""
    place = folder / f"{MEASURED}.json"
    if not place.is_file():
        return None
    found = read_json(folder, place.name)["decision_us"].get("p50")
    return None if found is None else float(found)


def _describe(question: str, conditions: Sequence[Condition]) -> dict[str, Any]:
    traces = {trace for condition in conditions if (trace := condition.spec.workload.trace) is not None}
    policies = {condition.spec.policy for condition in conditions}
    own = {policy: digest_of(source) for policy in sorted(policies) if (source := own_source(policy)) is not None}
    return {
        "question": question,
        "runs": {condition.name: dict(condition.labels) for condition in conditions},
        "order_seed": ORDER_SEED,
        "specs": {condition.name: condition.spec.model_dump(mode="json") for condition in conditions},
        "traces": {str(trace): digest_of(trace) for trace in sorted(traces)},
        **({OWN: own} if own else {}),
        CODE: code_identity(),
    }


def by_fabric(conditions: Sequence[Condition]) -> list[Condition]:
    """Runs in their order, gathered by the fabric that they can share."""
    groups: list[list[Condition]] = []
    for condition in conditions:
        group = next((group for group in groups if same_fabric(condition.spec, group[0].spec)), None)
        if group is None:
            groups.append([condition])
        else:
            group.append(condition)
    return [condition for group in groups for condition in group]


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
        expected_s[condition.name] = (spec.scenario.lead_s + span_s[key] + DRAIN_S) * pace
    return expected_s


class _Narrator:
    """Says what is running: on the progress bar of a terminal, in lines anywhere else."""

    def __init__(self, missing: Sequence[Condition], total: int, console: Console) -> None:
        self._console = console
        self._expected_s = _expected_s(missing)
        self._total, self._ended = total, total - len(missing)
        self._ended_s = self._share_s = self._started_s = 0.0
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %  left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=sum(self._expected_s.values()))

    def __enter__(self) -> _Narrator:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        self._progress.update(self._task, description=text)

    def started(self, name: str) -> None:
        """One run has begun; `advance` moves the bar over its share until it has `finished`."""
        self._share_s, self._started_s = self._expected_s[name], time.monotonic()
        self.say(f"{self._ended + 1}/{self._total}  {name}")

    def advance(self, _: int) -> None:
        within_s = min(time.monotonic() - self._started_s, self._share_s)
        self._progress.update(self._task, completed=self._ended_s + within_s)

    def finished(self, name: str, run: FinishedRun) -> None:
        self._ended += 1
        self._ended_s += self._expected_s[name]
        self._progress.update(self._task, completed=self._ended_s)
        why = f": {run.verdict['reasons'][0]}" if run.verdict["reasons"] else ""
        place = f"{self._ended}/{self._total}"
        line = f"{place:>6}  {name}  {run.took_s:.0f} s  {run.verdict['verdict']}{why}"
        self._console.print(line, highlight=False, soft_wrap=True)
