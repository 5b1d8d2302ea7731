"""Emulated against analytic: finds the runs of two folders, and puts the sections of a comparison together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pandas as pd

from experiments.comparing.gains import gains_report
from experiments.comparing.independent_runs import IndependentRun, independent_report, pair_up
from experiments.comparing.recorded_run import read_recorded
from experiments.comparing.replay_error import models_report, replay_report, replay_table
from experiments.running import RunSpec, StoreError, is_run, open_world, read_manifest, read_table, spec_of
from scheduler import find_policy
from serving import Outcome

RUNS = "runs"


def compare_folders(emulated: Path, analytic: Path | None, *, invalid: bool) -> tuple[dict[str, Any], pd.DataFrame]:
    """The report of a comparison and its table of transfers.

    Each folder is a run or a sweep. Without `analytic` the analytic world runs the same scenarios itself. Runs whose
    verdict is invalid are left out unless `invalid`. StoreError for folders that cannot be compared.
    """
    folders = [folder for folder in run_folders(emulated) if _world(folder) == "emulated"]
    if not folders:
        raise StoreError(f"{emulated}: holds no run of the emulated world")
    recorded = [read_recorded(folder) for folder in folders]
    trusted = [run for run in recorded if invalid or run.verdict != "invalid"]
    if not trusted:
        raise StoreError(f"{emulated}: every run is invalid; --invalid compares them all the same")
    trusted = one_a_specification(trusted)
    table = replay_table(trusted)
    ours = [IndependentRun(run.spec, read_table(run.folder, "requests")) for run in trusted]
    if analytic is None:
        theirs = [simulated(run.spec) for run in trusted]
    else:
        theirs = [_read(folder) for folder in run_folders(analytic) if _world(folder) == "analytic"]
        if not theirs:
            raise StoreError(f"{analytic}: holds no run of the analytic world")
    pairs = pair_up(ours, theirs)
    if not pairs:
        raise StoreError(f"{analytic}: no run has the scenario of one in {emulated}")
    report = {
        "runs": len(trusted),
        "left_out": len(recorded) - len(trusted),
        "verdicts": sorted({run.verdict for run in trusted}),
        "replay": replay_report(table),
        "models": models_report(table),
        "independent": independent_report(pairs),
        "gains": gains_report(trusted, pairs, table),
    }
    return report, table


class _Run(Protocol):
    @property
    def spec(self) -> RunSpec: ...


Run = TypeVar("Run", bound=_Run)


def one_a_specification(runs: Sequence[Run]) -> list[Run]:
    """Without the runs that repeat another, such as a sweep's control run."""
    return list({run.spec.model_dump_json(): run for run in reversed(runs)}.values())[::-1]


def run_folders(folder: Path) -> list[Path]:
    """The run in a folder, or the finished ones of a sweep. StoreError when it is neither."""
    if is_run(folder):
        return [folder]
    found = sorted(place for place in folder.glob(f"{RUNS}/*") if is_run(place))
    if not found:
        raise StoreError(f"{folder}: neither a run nor a sweep with finished runs")
    return found


def in_words(report: dict[str, Any]) -> str:
    """The comparison as a paragraph."""
    replay, decisions = report["replay"], report["independent"]["decisions"]
    kv = replay["kv_transfer"]
    slower = "longer" if kv["median_error"] >= 0 else "shorter"
    errors = {name: found["median_abs_error"] for name, found in replay["by_size"].items()}
    best, worst = min(errors, key=errors.__getitem__), max(errors, key=errors.__getitem__)
    apart = f", policies {100 * replay['policies_apart']:.1f} points apart" if len(replay["by_policy"]) > 1 else ""
    text = (
        f"Given the decisions, paths and start times of {replay['transfers']} transfers in {report['runs']} runs, the"
        f" fluid model misses the emulated times by {kv['median_abs_error']:.0%} in the median and"
        f" {kv['p90_abs_error']:.0%} at the 90th percentile; half of them took more than"
        f" {abs(kv['median_error']):.0%} {slower} than it says. It is nearest for transfers of {best}"
        f" ({errors[best]:.0%}) and farthest for those of {worst} ({errors[worst]:.0%}); all transfers together took"
        f" {replay['transfer_time_error']:+.0%}{apart}, the makespan {replay['makespan_error']:+.1%}. Deciding for"
        f" themselves, both worlds sent {decisions['alike']} of {decisions['requests']} requests to the same instance."
    )
    taus = [ranking["kendall_tau"] for ranking in report["independent"]["rankings"]]
    if taus:
        text += (
            f" They rank the policies with Kendall's tau of {sum(taus) / len(taus):.2f} over {len(taus)} conditions."
        )
    return text


def simulated(spec: RunSpec) -> IndependentRun:
    """The analytic world on the scenario of an emulated run."""
    analytic = spec.model_copy(update={"world": "analytic"})
    find_policy(analytic.policy)
    with open_world(analytic) as world:
        outcome: Outcome = world.run(analytic.scenario)
    return IndependentRun(analytic, pd.DataFrame(outcome.requests))


def _read(folder: Path) -> IndependentRun:
    return IndependentRun(spec_of(folder, read_manifest(folder)), read_table(folder, "requests"))


def _world(folder: Path) -> str:
    return str(read_manifest(folder)["spec"].get("world", "emulated"))
