"""What another process adds to a run, and what a run sends back.

Run with `pytest tests/bench/test_cluster_cost.py -q -s`. The same small analytic runs, one after another, in this
process and in one of `--jobs`; the time from having written one run to having the next one's files, the first of each
left out. The process goes on while its last run is written.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from experiments.running.local_processes import LocalProcesses
from experiments.running.run_process import FinishedRun
from experiments.running.run_spec import RunSpec
from experiments.running.store import write_files
from experiments.running.world_runner import WorldRunner
from tests.support.small_sweeps import small_conditions

RUNS = 41


def apart_ms(finished: Iterable[tuple[str, FinishedRun]], out: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Milliseconds between the ends of consecutive runs, of writing each, and the bytes of all their files."""
    ended_s, written_s, size_B = [], [], 0
    for name, run in finished:
        ended_s.append(time.perf_counter())
        write_files(out / name, run.files)
        written_s.append(time.perf_counter())
        size_B += sum(len(content) for content in run.files.values())
    return np.subtract(ended_s[1:], written_s[:-1]) * 1e3, np.subtract(written_s, ended_s) * 1e3, size_B


def test_what_another_process_adds_to_a_run(tmp_path: Path) -> None:
    specs: dict[str, RunSpec] = {made.name: made.spec for made in small_conditions(RUNS, requests=75)}
    with WorldRunner() as runner:
        runs = ((name, runner.run(spec)) for name, spec in specs.items())
        here_ms, written_ms, size_B = apart_ms(runs, tmp_path / "here")
    there_ms, _, _ = apart_ms(LocalProcesses(1).run_all(specs, lambda _: None), tmp_path / "there")
    assert len(here_ms) == len(there_ms) == RUNS - 1
    print(f"\nin this process {np.median(here_ms):.1f} ms a run, in another {np.median(there_ms):.1f} ms (medians)")
    print(f"its folder written in {np.median(written_ms):.1f} ms")
    print(f"a run of 75 requests sends back {size_B / RUNS / 1e3:.0f} kB")
