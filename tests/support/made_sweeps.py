"""Sweeps made by hand, in folders as `netkv sweep` writes them, so that what is said of them can be known before."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.running.run_spec import RunSpec
from experiments.running.store import write_json
from experiments.running.sweep_folder import DESCRIPTION, RUNS
from tests.support.made_runs import record, spec

REQUESTS = 40
SEEDS = 2
SNAPSHOTS = 20
BASE_MS = 1000.0

Numbers = np.ndarray[tuple[int], np.dtype[np.float64]]
Shape = Callable[[Numbers], Numbers]
"""What a policy makes of the TTFT that a request has under round-robin; 40 requests of 100 to 4,000 tokens."""


class Sweeps:
    """Writes sweeps whose every TTFT, TBT and tier is known. The same requests for all policies of a seed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._described: dict[Path, dict[str, Any]] = {}

    def run(
        self, sweep: str, policy: str, seed: int, *, ttft: Shape = lambda base: base, tpot_ms: float = 10.0,
        tier: Callable[[int], int] = lambda _: 1, met: Callable[[int], bool] = lambda _: True, world: str = "analytic",
        verdict: str = "valid", decision_us: float | None = None, labels: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> None:  # fmt: skip
        """One run. `met`: which requests meet their objective of 5 s; the others only have slow tokens."""
        rng = np.random.default_rng(seed)
        base_ms = BASE_MS * rng.lognormal(0, 0.1, REQUESTS)
        ttft_ms = ttft(base_ms) + rng.normal(0, 1, REQUESTS)
        records = [
            record(
                number, float(ttft_ms[number]), tpot_ms if met(number) else 200.0, policy=policy, tier=tier(number),
                input_length=100 * (number + 1), decision_us=math.nan if decision_us is None else decision_us,
            )
            for number in range(REQUESTS)
        ]  # fmt: skip
        own = {"world": world, "workload": "conversation", "seed": seed, "refresh_s": None, **(labels or {})}
        if policy == "netkv_full" and own["refresh_s"] is None:
            own["refresh_s"] = 1.0
        refresh = {} if own["refresh_s"] is None else {"oracle__refresh_s": own["refresh_s"]}
        table = pd.DataFrame([asdict(made) for made in records])
        self._write(sweep, own, table, verdict, spec(world=world, policy=policy, seed=seed, **refresh, **changes))

    def _write(self, sweep: str, labels: Mapping[str, Any], table: pd.DataFrame, verdict: str, made: RunSpec) -> None:
        folder = self.place / sweep
        name = "-".join(str(value) for value in (*labels.values(), made.policy))
        description = self._described.setdefault(folder, {"question": sweep, "runs": {}, "specs": {}})
        description["runs"][name] = dict(labels)
        description["specs"][name] = made.model_dump(mode="json")
        run = folder / RUNS / name
        run.mkdir(parents=True)
        table.to_parquet(run / "requests.parquet")
        write_json(run / "summary.json", {"oracle_snapshots": SNAPSHOTS})
        write_json(run / "manifest.json", {"spec": description["specs"][name], "verdict": verdict})
        (folder / DESCRIPTION).write_text(json.dumps(description))

    def pair(
        self, sweep: str, base: str, *, seeds: int = SEEDS, labels: Mapping[str, Any] | None = None, **ours: Any
    ) -> None:
        """NetKV-Full beside a baseline on every seed."""
        shared = {name: ours.pop(name) for name in ("world", "verdict", "fabric__pods") if name in ours}
        theirs = {name: ours.pop(f"base_{name}") for name in ("ttft", "met", "tpot_ms") if f"base_{name}" in ours}
        for seed in range(seeds):
            self.run(sweep, base, seed, labels=labels, **theirs, **shared)
            self.run(sweep, "netkv_full", seed, labels=labels, **ours, **shared)
