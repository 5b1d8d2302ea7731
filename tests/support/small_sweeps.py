"""Sweeps of analytic runs that take a fraction of a second each, and how to hold their folders against each other."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.running.store import MEASURED
from experiments.running.sweep import RUNS, Condition, run_sweep
from tests.support.made_runs import spec


def small_conditions(runs: int = 6, requests: int = 10, **changes: Any) -> list[Condition]:
    """Runs of two policies, seed by seed."""
    made = []
    for number in range(runs):
        policy, seed = ("round_robin", "netkv_full")[number % 2], number // 2
        made_spec = spec(policy=policy, seed=seed, workload__requests=requests, **changes)
        made.append(Condition(f"{policy}-seed{seed}", made_spec, {"seed": seed}))
    return made


def sweep_in(out: Path, conditions: list[Condition], *, resume: bool = False, **where: Any) -> str:
    """What a sweep says."""
    said = StringIO()
    run_sweep("small", conditions, out, resume=resume, console=Console(file=said, width=200), **where)
    return said.getvalue()


def kept(out: Path) -> dict[str, bytes | dict[str, Any]]:
    """Every file of every run that depends on its specification and our code alone.

    Of the manifest all but the commit: others may commit while a test runs.
    """
    found: dict[str, bytes | dict[str, Any]] = {}
    for file in sorted(path for path in (out / RUNS).glob("[!.]*/*") if path.stem != MEASURED):
        name = str(file.relative_to(out / RUNS))
        if file.name == "manifest.json":
            found[name] = {key: value for key, value in json.loads(file.read_bytes()).items() if key != "git_commit"}
        else:
            found[name] = file.read_bytes()
    return found
