"""How late the driver of an emulated run serves, alone and beside processes that keep processors busy.

    python -m tests.bench.driver_delay [--runs 3] [--busy 0 1]

Needs root. Each row is one run of 60 requests of the default, a seed each: its verdict, how late requests were issued
(99th percentile), how long a decision took (median, 99th percentile) and the processors that its processes kept busy.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

NETKV = Path(sys.executable).with_name("netkv")
REQUESTS = ("--requests", "60", "--set", "workload.max_output_tokens=64")
DEADLINE_S = 240.0
ROW = "{:>5} {:>5}  {:<8} {:>8} {:>13} {:>13} {:>11}"


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes of ordinary priority that never sleep, each in a session of its own."""
    spinning = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(processes)
    ]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def measure(seed: int, out: Path) -> tuple[str, str, str, str, str]:
    """One run: verdict, lateness, median and 99th percentile of a decision, milliseconds, and own processors."""
    command = [NETKV, "run", *REQUESTS, "--seed", str(seed), "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    evidence = manifest["evidence"]
    decision_ms = pd.read_parquet(out / "decisions.parquet", columns=["decision_us"])["decision_us"] / 1e3
    p50, p99 = np.percentile(decision_ms, [50, 99])
    late_ms, cpus = evidence["arrival_lateness_p99_ms"], evidence["own_cpus"]
    return manifest["verdict"], f"{late_ms:.1f}", f"{p50:.2f}", f"{p99:.1f}", f"{cpus:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    print(ROW.format("busy", "seed", "verdict", "late, ms", "decision, p50", "decision, p99", "processors"))
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.runs):
            for processes in options.busy:
                with busy(processes):
                    found = measure(seed, Path(folder) / f"{seed}-{processes}")
                print(ROW.format(processes, seed, *found), flush=True)


if __name__ == "__main__":
    main()
