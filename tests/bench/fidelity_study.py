"""What makes TCP miss the fluid answer: cells that differ in a few knobs, the same seeds in every cell.

    python -m tests.bench.fidelity_study --out results/fidelity --repeats 10 [--cells best,former] [--budget-s 100]
    python -m tests.bench.fidelity_study --out results/fidelity --report [--figure docs/img/fidelity-study.png]

Makes what is not there yet and repeats what did not come out `valid`: what other work on the machine does to packets is
larger than what most knobs do. Cells of one emulation share a fabric, and the seeds are the outer loop, so that every
cell sees the machine at all times of the day. With a budget it stops after about so many seconds; call it again to go
on. Then it prints a table in Markdown, over the transfers of all valid runs of a cell.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from experiments.comparing.recorded_run import REPLAY, read_recorded
from experiments.comparing.replay_error import errors_of, makespan_errors, replay_table
from experiments.drawing.static_style import paper
from experiments.running.errors import StoreError
from experiments.running.store import read_manifest, write_run
from experiments.running.worlds import open_world, same_fabric, verdict_of
from tests.support.fidelity_cells import CELLS, spec_of

RUN_S = 16.0
"""About what a run takes: none is begun with less of the budget left."""

GOALS = {"median": 10.0, "p90": 30.0}
"""What a run at moderate load should keep to, per cent (docs/explanation/fidelity.md)."""


def is_valid(folder: Path) -> bool:
    """Whether the folder holds a run that counts."""
    try:
        return bool(read_manifest(folder)["verdict"] == "valid")
    except StoreError:
        return False


def missing(out: Path, cells: list[str], repeats: int) -> list[tuple[str, int]]:
    """Cells and seeds without a valid run, seeds in the outer loop."""
    return [(cell, seed) for seed in range(repeats) for cell in cells if not is_valid(out / f"{cell}-{seed}")]


def measure(out: Path, wanted: list[tuple[str, int]], until_s: float) -> None:
    """Try each of them once; those of one fabric follow one another."""
    while wanted and time.monotonic() + RUN_S < until_s:
        first = spec_of(*wanted[0])
        together = [one for one in wanted if same_fabric(first, spec_of(*one))]
        wanted = [one for one in wanted if one not in together]
        with open_world(first) as world:
            for cell, seed in together:
                if time.monotonic() + RUN_S > until_s:
                    break
                spec = spec_of(cell, seed)
                outcome = world.run(spec.scenario)
                verdict = verdict_of(spec, outcome)
                folder = out / f"{cell}-{seed}"
                shutil.rmtree(folder, ignore_errors=True)
                write_run(folder, spec, outcome, verdict)
                print(cell, seed, verdict["verdict"], *verdict["reasons"][:1], flush=True)


def transfers_of(out: Path, cell: str) -> pd.DataFrame | None:
    """A row a transfer of a cell's valid runs; None without any."""
    runs = [read_recorded(folder) for folder in sorted(out.glob(f"{cell}-[0-9]*")) if is_valid(folder)]
    return replay_table(runs) if runs else None


def row_of(table: pd.DataFrame) -> Mapping[str, Any]:
    """The figures of a cell."""
    medians = [errors_of(rows["error"])["median_abs_error"] for _, rows in table.groupby("run")]
    large = table[table["kv_bytes"] >= 1e9]
    model_s = table[REPLAY]
    return {
        "runs": table["run"].nunique(),
        **errors_of(table["error"]),
        "large": errors_of(large["error"]) if len(large) else None,
        "gap_ms": 1e3 * float((table["taken_s"] - model_s).median()),
        "total": table["taken_s"].sum() / model_s.sum() - 1,
        "makespan": max(makespan_errors(table), key=abs),
        "low": float(np.min(medians)),
        "high": float(np.max(medians)),
    }


def report(tables: Mapping[str, pd.DataFrame]) -> None:
    print(
        "| cell | runs | transfers | median | p90 | median > 1 GB | p90 > 1 GB | gap | time in all"
        " | worst makespan | medians of runs |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for cell, table in tables.items():
        row = row_of(table)
        large = f"{row['large']['median_abs_error']:.0%} | {row['large']['p90_abs_error']:.0%}" if row["large"] else "|"
        print(
            f"| {cell} | {row['runs']} | {row['count']} | {row['median_abs_error']:.1%} | {row['p90_abs_error']:.0%}"
            f" | {large} | {row['gap_ms']:+.1f} ms | {row['total']:+.1%} | {row['makespan']:+.1%}"
            f" | {row['low']:.0%} - {row['high']:.0%} |"
        )


def draw(tables: Mapping[str, pd.DataFrame], out: Path) -> None:
    """Median and 90th percentile of |error|, a row a cell, with the goal."""
    rows = {cell: row_of(table) for cell, table in tables.items()}
    names = sorted(rows, key=lambda cell: -rows[cell]["p90_abs_error"])
    heights = np.arange(len(names))
    with paper():
        figure, axis = plt.subplots(figsize=(8, 0.36 * len(names) + 1.6), layout="constrained")
        for key, colour, marker, label in (
            ("median", "#0072B2", "o", "median"),
            ("p90", "#D55E00", "s", "90th percentile"),
        ):
            values = [100 * rows[name][f"{key}_abs_error"] for name in names]
            axis.plot(values, heights, linestyle="", marker=marker, color=colour, label=label)
            axis.axvline(GOALS[key], color=colour, linestyle=":", linewidth=1)
        labels = [f"{name} ({rows[name]['runs']} run{'s'[: rows[name]['runs'] - 1]})" for name in names]
        axis.set(xscale="log", xlabel="|error| of a transfer (%); dotted: the goals", yticks=heights)
        axis.set_yticklabels(labels)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.grid(axis="x")
        axis.legend(loc="upper right")
        axis.set_title("How far packets are from the fluid replay", loc="left")
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=160)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--budget-s", type=float, default=float("inf"), help="begin no run after this")
    parser.add_argument("--report", action="store_true", help="only the table of what is there")
    parser.add_argument("--figure", type=Path, help="draw the table, too")
    arguments = parser.parse_args()
    until_s = time.monotonic() + arguments.budget_s
    cells = arguments.cells.split(",")
    if not arguments.report:
        measure(arguments.out, missing(arguments.out, cells, arguments.repeats), until_s)
    found = {cell: transfers_of(arguments.out, cell) for cell in cells}
    tables = {cell: table for cell, table in found.items() if table is not None}
    report(tables)
    if arguments.figure and tables:
        draw(tables, arguments.figure)


if __name__ == "__main__":
    main()
