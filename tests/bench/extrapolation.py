"""What of the emulation's error is left where a round trip takes 10 us, as in a real fabric: errors of the main job's
set-up at several `rate_scale` and `time_dilation`, extrapolated.

    sudo .venv/bin/python -m tests.bench.extrapolation --out results/extrapolation [--seeds 4] [--budget-s 170]
    python -m tests.bench.extrapolation --out results/extrapolation --report

Both factors make links slower alike, but only `time_dilation` makes transfers longer beside the round trips of this
machine, and only `rate_scale` takes frames away from them. Each run is one `netkv run`; the same seeds in every cell,
in random order within a seed. Makes what is not there yet or came out `invalid`; with a budget it begins no run that
would end later. `netkv compare DIR/CELL` shows any cell alone.

Then it prints, by cell, the signed error of all transfers together against the fluid answer to the same decisions, by
policy, and what that does to the gain; and by least squares over the cells of each seed the error at a round trip of
10 us and frames of their real size, with Student's interval over seeds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.comparing import REPLAY, read_recorded, replay_table
from experiments.running import StoreError, make_spec, read_manifest, read_table
from tests.support.extrapolating import Point, at_the_origin, over_seeds
from tests.support.staleness_set_up import set_up_of

BASE, OTHER = "round_robin", "netkv_full"
REAL_ROUND_TRIP_MS = 0.010
REQUESTS = 75
RUN_S, REPLAYED_S = 18.0, 11.0
"""About what a run takes beside its requests, and their span at `time_dilation=1`."""


class Cell(NamedTuple):
    """How the real system is scaled onto the machine."""

    rate_scale: int
    time_dilation: int

    def __str__(self) -> str:
        return f"{self.rate_scale}x{self.time_dilation}"

    @property
    def takes_s(self) -> float:
        """About how long one of its runs takes."""
        return RUN_S + REPLAYED_S * self.time_dilation


CELLS = (Cell(2500, 1), Cell(2500, 2), Cell(2500, 4), Cell(5000, 1))
"""The first is the main job's. The least that settles a plane and one cell more."""


@dataclass(frozen=True)
class Measured:
    """One run. `error`: of the time of all transfers together, percent; `round_trip`: on the idle fabric, mean over the
    transfers' tiers, over the mean transfer of the fluid answer; `ttft_ms`: of each completed request, `fluid_ttft_ms`
    the same with the fluid answer in the place of its transfer."""

    error: float
    round_trip: float
    real_round_trip: float
    round_trip_ms: float
    frames: float
    ttft_ms: pd.Series[float]
    fluid_ttft_ms: pd.Series[float]


def folder_of(out: Path, cell: Cell, policy: str, seed: int) -> Path:
    return out / str(cell) / "runs" / f"{policy}-{seed}"


def verdict(folder: Path) -> str:
    """Of the run in a folder; empty where there is none."""
    try:
        return str(read_manifest(folder)["verdict"])
    except StoreError:
        return ""


def missing(out: Path, seeds: int) -> Iterator[tuple[Cell, str, int]]:
    """Runs that are not there or do not count, seed by seed."""
    for seed in range(seeds):
        runs = [(cell, policy, seed) for cell in CELLS for policy in (BASE, OTHER)]
        for place in np.random.default_rng(seed).permutation(len(runs)):
            if verdict(folder_of(out, *runs[place])) in ("", "invalid"):
                yield runs[place]


def measure(out: Path, seeds: int, until_s: float) -> None:
    """Make what is missing, each run by a `netkv run` of its own."""
    for cell, policy, seed in list(missing(out, seeds)):
        if time.monotonic() + cell.takes_s > until_s:
            continue
        folder = folder_of(out, cell, policy, seed)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        changes = {
            **set_up_of("quick"),
            **{"workload.requests": REQUESTS, "world": "emulated", "oracle.refresh_s": 0.1},
            **{"emulation.rate_scale": cell.rate_scale, "emulation.time_dilation": cell.time_dilation},
        }
        spec_file = out / f"{cell}.yaml"
        spec_file.write_text(json.dumps(make_spec({}, changes).model_dump(mode="json")), encoding="utf-8")
        command = [sys.executable, "-m", "experiments.cli", "run", str(spec_file), "--quiet", "--out", str(folder)]
        began_s = time.monotonic()
        subprocess.run([*command, "--policy", policy, "--seed", str(seed)], check=False)
        print(f"{cell} {policy} {seed}: {verdict(folder)}, {time.monotonic() - began_s:.0f} s", flush=True)


def measured(folder: Path) -> Measured:
    run = read_recorded(folder)
    rows = replay_table([run])
    idle_ms = read_manifest(folder)["evidence"]["idle_round_trip_ms"]
    round_trip_ms = float(rows["tier"].map(lambda tier: idle_ms[str(tier)]).mean())
    fluid_ms = 1e3 * float(rows[REPLAY].mean())
    requests = read_table(folder, "requests").set_index("request_id")
    done = requests[requests["status"] == "completed"]
    longer_ms = 1e3 * (rows["taken_s"] - rows[REPLAY]).set_axis(rows["request_id"]).reindex(done.index).fillna(0.0)
    return Measured(
        error=100 * float(rows["taken_s"].sum() / rows[REPLAY].sum() - 1),
        round_trip=round_trip_ms / fluid_ms,
        real_round_trip=REAL_ROUND_TRIP_MS / fluid_ms,
        round_trip_ms=round_trip_ms,
        frames=float(rows["frames"].median()),
        ttft_ms=done["ttft_ms"],
        fluid_ttft_ms=done["ttft_ms"] - longer_ms,
    )


def bias(base: Measured, other: Measured) -> tuple[float, float]:
    """The change of mean TTFT over the requests that completed in both, percent, and by how many points emulation
    moves it from the fluid answer to the same decisions."""
    both = base.ttft_ms.index.intersection(other.ttft_ms.index)
    emulated = 100 * float(other.ttft_ms[both].mean() / base.ttft_ms[both].mean() - 1)
    fluid = 100 * float(other.fluid_ttft_ms[both].mean() / base.fluid_ttft_ms[both].mean() - 1)
    return emulated, emulated - fluid


def point_of(cell: Cell, *runs: Measured) -> Point:
    """What is explained with: round trip over transfer, percent, beyond the real one; `rate_scale` in thousands."""
    beyond = np.mean([run.round_trip - run.real_round_trip for run in runs])
    return 100 * float(beyond), (cell.rate_scale - 1) / 1e3


def report(out: Path) -> None:
    runs: dict[tuple[Cell, str, int], Measured] = {}
    for cell in CELLS:
        for folder in sorted((out / str(cell)).glob("runs/*")):
            policy, _, seed = folder.name.rpartition("-")
            if verdict(folder) not in ("", "invalid"):
                runs[cell, policy, int(seed)] = measured(folder)
    seeds = sorted({seed for *_, seed in runs})
    print(
        "| rate_scale x dilation | runs | valid | round trip, ms | of a transfer, % | frames"
        f" | {BASE}, % | {OTHER}, % | gain, % | bias, points |\n" + "|---" * 10 + "|"
    )
    for cell in CELLS:
        print(_row(out, cell, {key[1:]: run for key, run in runs.items() if key[0] == cell}))
    for name, found in _explained(runs, seeds).items():
        if len(found) > 1:
            print(f"{name}: {_fit(found)}")


def _row(out: Path, cell: Cell, runs: dict[tuple[str, int], Measured]) -> str:
    if not runs:
        return f"| {cell} | 0 |"
    valid = sum(verdict(folder_of(out, cell, *key)) == "valid" for key in runs)
    means = [np.mean([getattr(run, name) for run in runs.values()]) for name in ("round_trip_ms", "frames")]
    share = 100 * np.mean([run.round_trip for run in runs.values()])
    errors = [_words([run.error for (policy, _), run in runs.items() if policy == which]) for which in (BASE, OTHER)]
    pairs = [
        bias(runs[BASE, seed], runs[OTHER, seed]) for policy, seed in runs if policy == OTHER and (BASE, seed) in runs
    ]
    gains, biases = ([pair[which] for pair in pairs] for which in (0, 1))
    return (
        f"| {cell} | {len(runs)} | {valid} | {means[0]:.2f} | {share:.2f} | {means[1]:.0f}"
        f" | {errors[0]} | {errors[1]} | {_words(gains)} | {_words(biases)} |"
    )


def _words(values: list[float]) -> str:
    if not values:
        return "-"
    found = over_seeds(values)
    low, high = found.interval()
    return f"{found.value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _explained(runs: dict[tuple[Cell, str, int], Measured], seeds: list[int]) -> dict[str, Any]:
    """By what is extrapolated: by seed the points and values of its cells."""
    found: dict[str, Any] = {}
    for policy in (BASE, OTHER):
        found[f"error of {policy}, %"] = {
            seed: [(point_of(cell, run), run.error) for (cell, *of), run in runs.items() if of == [policy, seed]]
            for seed in seeds
        }
    both = {
        seed: [
            (cell, runs[cell, BASE, seed], runs[cell, OTHER, seed])
            for cell in CELLS
            if (cell, BASE, seed) in runs and (cell, OTHER, seed) in runs
        ]
        for seed in seeds
    }
    found["policies apart, points"] = {
        seed: [(point_of(cell, base, other), other.error - base.error) for cell, base, other in cells]
        for seed, cells in both.items()
    }
    found["bias of the gain, points"] = {
        seed: [(point_of(cell, base, other), bias(base, other)[1]) for cell, base, other in cells]
        for seed, cells in both.items()
    }
    return found


def _fit(found: dict[int, list[tuple[Point, float]]]) -> str:
    try:
        intercept, (by_round_trip, by_scale) = at_the_origin(found)
    except ValueError:
        return "too few cells"
    ends = [
        f"{one.value:+.2f} [{low:+.2f}, {high:+.2f}]"
        for one in (intercept, by_round_trip, by_scale)
        for low, high in [one.interval()]
    ]
    return (
        f"{ends[0]} at {1e3 * REAL_ROUND_TRIP_MS:.0f} us and rate_scale=1; {ends[1]} for each percent of a transfer"
        f" that a round trip takes, {ends[2]} for each 1,000 of rate_scale ({intercept.units} seeds)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--budget-s", type=float, default=float("inf"), help="begin no run that would end after this")
    parser.add_argument("--report", action="store_true", help="only the tables of what is there")
    options = parser.parse_args()
    if not options.report:
        measure(options.out, options.seeds, time.monotonic() + options.budget_s)
    report(options.out)


if __name__ == "__main__":
    main()
