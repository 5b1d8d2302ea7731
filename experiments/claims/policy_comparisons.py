"""The runs that claims are judged by: sweeps read once, and the comparisons of policies that they hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from experiments.analysis import Estimate, counted, informed, refresh_numbers
from experiments.running import DESCRIPTION, MEASURED, RUNS, RunSpec, StoreError, read_description, read_sweep

POLICY = "netkv_full"
COLUMNS = (
    "request_id", "input_length", "output_length", "policy", "tier", "ttft_ms", "tpot_ms", "decision_us", "status",
    "run", "verdict", "slo_met", "snapshots",
)  # fmt: skip
"""Columns that claims are judged by; a sweep's labels are added."""

NOT_OF_A_CONFIGURATION = ("world", "seed", "refresh_s")

Measure = Callable[[pd.DataFrame, pd.DataFrame], Estimate]


@dataclass(frozen=True)
class ClaimSweep:
    """One sweep: the requests that count, the labels that make a configuration, and the specification of each run."""

    folder: str
    question: str
    requests: pd.DataFrame
    labels: tuple[str, ...]
    specs: Mapping[str, RunSpec]

    def worlds(self) -> list[str]:
        return sorted(self.requests["world"].unique())

    def cells(self, world: str) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
        """Every configuration of a world, by its labels, with the requests of all policies there."""
        here = self.requests[self.requests["world"] == world]
        names = list(self.labels)
        if not names:
            yield {}, here
            return
        for values, cell in here.groupby(names, dropna=False, sort=True):
            yield dict(zip(names, values, strict=True)), cell


@dataclass(frozen=True)
class PolicyComparison:
    """Two policies, or two ages of one policy's telemetry, in one configuration; `gpus`: the size of its fabric."""

    sweep: str
    configuration: Mapping[str, Any]
    estimate: Estimate
    seeds: int
    runs: tuple[str, ...]
    gpus: int

    def at(self) -> str:
        """Where it was made, in words."""
        labels = [f"{name} {_shown(value)}" for name, value in self.configuration.items() if name != "question"]
        return (
            f"{', '.join(labels)} ({self.configuration['question']} sweep {Path(self.sweep).name}, {self.seeds} seeds)"
        )


def read_evidence(
    folders: Sequence[Path], read: Mapping[Path, pd.DataFrame] = MappingProxyType({})
) -> list[ClaimSweep]:
    """Every sweep once, in the order of their paths, without invalid runs and the warm-up. StoreError for no sweep.

    Runs of too few telemetry snapshots are left out, too (`experiments.analysis.informed`), and those with faults, of
    which the paper claims nothing.

    A folder that holds sweeps instead of being one stands for all of them. `read`: what `read_sweep` has given of some.
    """
    places = {place.resolve(): place for folder in folders for place in _sweeps_in(folder)}
    return [_claim_sweep(place, read.get(place)) for _, place in sorted(places.items())]


def _sweeps_in(folder: Path) -> list[Path]:
    if (folder / DESCRIPTION).exists():
        return [folder]
    return sorted(place.parent for place in folder.glob(f"*/{DESCRIPTION}")) or [folder]


def _claim_sweep(folder: Path, read: pd.DataFrame | None) -> ClaimSweep:
    description = read_description(folder)
    requests = read_sweep(folder) if read is None else read
    labels = list(dict.fromkeys(name for run in description["runs"].values() for name in run if name in requests))
    own = tuple(name for name in labels if name not in NOT_OF_A_CONFIGURATION)
    requests = requests[[*COLUMNS, *labels]].assign(refresh_s=refresh_numbers(requests["refresh_s"]))
    if "gpus" in own:
        requests["decision_us"] = _decision_us(folder, requests)
    specs = _specs(folder, description)
    whole = {name for name, spec in specs.items() if not spec.faults.kinds}
    trusted = informed(counted(requests[requests["run"].isin(whole)]))
    return ClaimSweep(str(folder), str(description.get("question")), trusted, own, specs)


def _specs(folder: Path, description: Mapping[str, Any]) -> dict[str, RunSpec]:
    try:
        return {name: RunSpec.model_validate(description["specs"][name]) for name in description["runs"]}
    except (KeyError, TypeError, ValidationError):
        raise StoreError(
            f"{folder}: {DESCRIPTION} is damaged: the specification of a run is missing or wrong"
        ) from None


def _decision_us(folder: Path, requests: pd.DataFrame) -> pd.Series[float]:
    """The wall time of each decision; of an analytic run, whose requests do not have it, the median of them all."""
    medians = {}
    for run in requests["run"].unique():
        place = folder / RUNS / run / f"{MEASURED}.json"
        if place.is_file():
            medians[run] = json.loads(place.read_text(encoding="utf-8"))["decision_us"].get("p50")
    return requests["run"].map(medians).astype(float).fillna(requests["decision_us"])


def compare(
    sweeps: Sequence[ClaimSweep], world: str, baselines: Sequence[str], measure: Measure
) -> list[PolicyComparison]:
    """NetKV-Full against each of `baselines` in every configuration of a world that has both.

    Each age of NetKV's telemetry snapshot is a configuration of its own; the baselines read no telemetry. `measure` is
    given the baseline's requests and NetKV's.
    """
    found = []
    for sweep in sweeps:
        for labels, cell in sweep.cells(world):
            ours = cell[cell["policy"] == POLICY]
            for refresh_s, group in ours.groupby("refresh_s", dropna=False, sort=True):
                for baseline in baselines:
                    base = cell[cell["policy"] == baseline]
                    if len(base):
                        place = {"question": sweep.question, **labels, "refresh_s": refresh_s, "against": baseline}
                        found.append(_comparison(sweep, place, base, group, measure))
    return [comparison for comparison in found if comparison.estimate.pairs]


def aged(sweeps: Sequence[ClaimSweep], world: str, measure: Measure) -> list[PolicyComparison]:
    """NetKV-Full with an older telemetry snapshot against itself with the freshest, where several ages were run."""
    found = []
    for sweep in sweeps:
        for labels, cell in sweep.cells(world):
            ours = cell[cell["policy"] == POLICY]
            ages = sorted(ours["refresh_s"].dropna().unique())
            for refresh_s in ages[1:]:
                place = {"question": sweep.question, **labels, "refresh_s": refresh_s, "against": f"{ages[0]:g} s"}
                fresh, old = (ours[ours["refresh_s"] == age] for age in (ages[0], refresh_s))
                found.append(_comparison(sweep, place, fresh, old, measure))
    return [comparison for comparison in found if comparison.estimate.pairs]


def _comparison(
    sweep: ClaimSweep, place: Mapping[str, Any], base: pd.DataFrame, other: pd.DataFrame, measure: Measure
) -> PolicyComparison:
    seeds = set(base["seed"]) & set(other["seed"])
    runs = tuple(sorted({*base["run"].unique(), *other["run"].unique()}))
    known = {name: value for name, value in place.items() if not (isinstance(value, float) and np.isnan(value))}
    return PolicyComparison(
        sweep.folder, known, measure(base, other), len(seeds), runs, sweep.specs[runs[0]].fabric.gpus
    )


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
