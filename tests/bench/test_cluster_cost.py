"""What Dask adds to a run, and what a run sends back.

Run with `pytest tests/bench/test_cluster_cost.py -q -s`. The same small analytic runs, one after another, in this
process and by one local worker; the time from one run's files to the next one's, the first run of each left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np

from experiments.cluster import local_cluster
from experiments.performer import FinishedRun
from experiments.spec import RunSpec
from experiments.stage import Stage
from tests.small_sweeps import small_conditions

RUNS = 41


def apart_ms(finished: Iterable[tuple[str, FinishedRun]]) -> tuple[np.ndarray, int]:
    """Milliseconds between the ends of consecutive runs, and the bytes of all their files."""
    ended_s, size_B = [], 0
    for _, run in finished:
        ended_s.append(time.perf_counter())
        size_B += sum(len(content) for content in run.files.values())
    return np.diff(ended_s) * 1e3, size_B


def test_what_a_cluster_adds_to_a_run() -> None:
    specs: dict[str, RunSpec] = {made.name: made.spec for made in small_conditions(RUNS, requests=75)}
    with Stage() as stage:
        here_ms, size_B = apart_ms((name, stage.perform(spec)) for name, spec in specs.items())
    with local_cluster(1, lambda _: None) as cluster:
        there_ms, _ = apart_ms(cluster.perform(specs, lambda _: None))
    assert len(here_ms) == len(there_ms) == RUNS - 1
    print(f"\nin this process {np.median(here_ms):.1f} ms a run, by a worker {np.median(there_ms):.1f} ms (medians)")
    print(f"a run of 75 requests sends back {size_B / RUNS / 1e3:.0f} kB")
