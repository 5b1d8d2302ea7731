"""What makes TCP miss the fluid answer: one knob changed at a time, the same seeds in every cell.

    python -m tests.bench.fidelity_study --out results/fidelity --repeats 10 [--cells default,queue_300]
    python -m tests.bench.fidelity_study --out results/fidelity --report

Runs what is not there yet, seeds in the outer loop so that every cell sees the machine at all times of the day; then
prints a table in Markdown: errors pooled over transfers of all repeats, and the spread of the run medians.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.recorded_run import read_recorded
from experiments.replay_error import errors_of, replay_table
from experiments.spec import make_spec
from experiments.store import StoreError, is_run, write_run
from experiments.worlds import open_world, verdict_of

BASE = {
    "workload.requests": 30,
    "workload.max_input_tokens": 12_000,
    "workload.max_output_tokens": 8,
    "policy": "cla",
}
"""Short requests, so that a run takes seconds; a policy blind to the network, so that cells differ less."""

CELLS: dict[str, dict[str, Any]] = {
    "default": {},
    "no_congestion": {"congestion.kind": "none"},
    "queue_30": {"emulation.queue_packets": 30},
    "queue_300": {"emulation.queue_packets": 300},
    "queue_1000": {"emulation.queue_packets": 1000},
    "rto_min_20": {"emulation.rto_min_ms": 20},
    "rto_min_200": {"emulation.rto_min_ms": 200},
    "window_40": {"emulation.initial_window_packets": 40},
    "stripes_1": {"serving.stripes": 1},
    "stripes_8": {"serving.stripes": 8},
    "reno": {"emulation.congestion_control": "reno"},
    "bbr": {"emulation.congestion_control": "bbr"},
    "rate_scale_1250": {"emulation.rate_scale": 1250.0},
    "rate_scale_5000": {"emulation.rate_scale": 5000.0},
    "dilation_4": {"emulation.time_dilation": 4.0},
}


def measure(out: Path, cell: str, seed: int) -> None:
    """One run of one cell."""
    spec = make_spec({}, {**BASE, **CELLS[cell], "seed": seed})
    with open_world(spec) as world:
        outcome = world.run(spec.scenario)
    write_run(out / f"{cell}-{seed}", spec, outcome, verdict_of(spec, outcome))


def row_of(out: Path, cell: str) -> Mapping[str, Any] | None:
    """The figures of a cell over its valid repeats; None without any.

    Not the suspect ones: what other work on the machine does to packets is larger than what most knobs do.
    """
    runs = []
    for folder in sorted(out.glob(f"{cell}-[0-9]*")):
        try:
            runs.append(read_recorded(folder))
        except StoreError as problem:
            print(f"left out: {problem}")
    runs = [run for run in runs if run.verdict == "valid"]
    if not runs:
        return None
    table = replay_table(runs)
    medians = [errors_of(rows["error"])["median_abs_error"] for _, rows in table.groupby("run")]
    large = table[table["kv_bytes"] >= 1e9]
    return {
        "runs": len(runs),
        **errors_of(table["error"]),
        "large_median": errors_of(large["error"])["median_abs_error"] if len(large) else float("nan"),
        "total": table["taken_s"].sum() / table["fluid_frames"].sum() - 1,
        "low": float(np.min(medians)),
        "high": float(np.max(medians)),
    }


def report(out: Path) -> None:
    print("| cell | runs | transfers | median | p90 | signed median | median > 1 GB | time in all | run medians |")
    print("|---|---|---|---|---|---|---|---|---|")
    for cell in CELLS:
        row = row_of(out, cell)
        if row:
            print(
                f"| {cell} | {row['runs']} | {row['count']} | {row['median_abs_error']:.0%}"
                f" | {row['p90_abs_error']:.0%}"
                f" | {row['median_error']:+.0%} | {row['large_median']:.0%} | {row['total']:+.0%}"
                f" | {row['low']:.0%} - {row['high']:.0%} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--report", action="store_true", help="only the table of what is there")
    arguments = parser.parse_args()
    if not arguments.report:
        for seed in range(arguments.repeats):
            for cell in arguments.cells.split(","):
                if not is_run(arguments.out / f"{cell}-{seed}"):
                    measure(arguments.out, cell, seed)
                    print(cell, seed, flush=True)
    report(arguments.out)


if __name__ == "__main__":
    main()
