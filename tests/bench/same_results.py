"""Are analytic results the same, bit for bit, as those of another commit of this project?

    python -m tests.bench.same_results COMMIT        # about two minutes; exit code 1 where a value differs

Checks COMMIT out beside this tree, makes the same runs with both, and compares every value of every table and of the
summary. A restructuring is held to it. Where a commit knows a field by another name, `FORMERLY` has it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.support.paths import ROOT

TABLES = ("requests", "decisions", "links")
SHORT = ("--requests", "150", "--set", "workload.max_output_tokens=64")
RUNS: dict[str, tuple[str, ...]] = {
    **{f"default {policy}": ("--policy", policy) for policy in ("round_robin", "cla_star", "netkv_static")},
    "default netkv_full": ("--policy", "netkv_full", "--seed", "3"),
    "stale": ("--policy", "netkv_full", "--refresh", "5"),
    "never": ("--policy", "netkv_full", "--refresh", "never"),
    "exact": ("--policy", "netkv_full", "--set", "oracle.source=exact"),
    "noisy": ("--policy", "netkv_full", "--set", "oracle.noise=0.3", "--set", "oracle.loss=0.2"),
    "tier view": ("--policy", "netkv_full", "--set", "oracle.view=tier"),
    "hotspot": ("--policy", "netkv_full", "--congestion", "hotspot"),
    "constant": ("--policy", "dynamo_qos", "--congestion", "constant"),
    "shuffle": ("--policy", "llmd_topology", "--congestion", "shuffle"),
    "colocated": ("--policy", "conductor", "--set", "serving.placement=colocated"),
    "tight memory": ("--policy", "aibrix_decode", "--set", "serving.kv_memory_tokens=70000"),
    "few slots": ("--policy", "vllm_dp", "--set", "serving.batch_slots=2", "--set", "workload.speedup=2"),
    "old loads": ("--policy", "power_of_two", "--set", "oracle.load_refresh_s=5"),
    "closed form": ("--policy", "netkv_full", "--set", "simulation.network=closed_form"),
    "ideal spreading": ("--policy", "netkv_full", "--set", "simulation.spreading=ideal"),
    "connections a transfer": ("--policy", "netkv_full", "--set", "serving.connections=per_transfer"),
    "rag": ("--policy", "ca", "--set", "workload.profile=rag"),
    "256 GPUs": ("--policy", "netkv_full", "--set", "fabric.pods=8", "--set", "workload.speedup=4"),
}
FORMERLY: dict[str, str] = {"serving.connections=per_transfer": "serving.connections=fresh"}
"""What an older COMMIT calls the key: asked for where it refuses the new name."""


def made(tree: Path, out: Path, options: tuple[str, ...]) -> Path:
    """One run by the code of a tree; its folder."""
    command = [sys.executable, "-P", "-c", "from experiments.cli import main; main()", "run", "--world", "analytic"]
    done = subprocess.run(
        [*command, *SHORT, *options, "--out", str(out)],
        cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    former = tuple(FORMERLY.get(word, word) for word in options)
    if done.returncode == 2 and former != options:
        return made(tree, out, former)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{tree}: {' '.join(options)}: {done.stderr.strip()[-500:]}")
    return out


def differences(one: Path, other: Path) -> list[str]:
    """Where two run folders differ, a line a column or figure. A figure that only the later summary has is none."""
    found = []
    for table in TABLES:
        before, after = (pd.read_parquet(folder / f"{table}.parquet") for folder in (one, other))
        if list(before.columns) != list(after.columns) or len(before) != len(after):
            found.append(f"{table}: another shape")
            continue
        found += [f"{table}.{name}" for name in before.columns if not same(before[name], after[name])]
    before_said, after_said = (json.loads((folder / "summary.json").read_text()) for folder in (one, other))
    lost = object()
    return found + [f"summary.{key}" for key in sorted(before_said) if before_said[key] != after_said.get(key, lost)]


def same(before: pd.Series[Any], after: pd.Series[Any]) -> bool:
    if before.dtype.kind in "fiub" and after.dtype.kind in "fiub":
        return bool(np.array_equal(before.to_numpy(), after.to_numpy(), equal_nan=before.dtype.kind == "f"))
    return before.astype(str).tolist() == after.astype(str).tolist()


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m tests.bench.same_results COMMIT", file=sys.stderr)
        return 2
    parted = 0
    with tempfile.TemporaryDirectory(prefix="netkv-same-") as place:
        tree = Path(place) / "before"
        subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--detach", str(tree), arguments[0]], check=True)
        try:
            for number, (name, options) in enumerate(RUNS.items()):
                before = made(tree, Path(place) / f"{number}-before", options)
                after = made(ROOT, Path(place) / f"{number}-after", options)
                found = differences(before, after)
                parted += bool(found)
                print(f"{name:<24} {'the same' if not found else 'DIFFERS: ' + ', '.join(found[:6])}", flush=True)
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(tree)], check=True)
    print(f"{len(RUNS) - parted} of {len(RUNS)} runs are the same, value by value")
    return 1 if parted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
