"""Many bring-ups in a row, and one long run: does anything leak, and does a daemon die?

    sudo .venv/bin/python -m tests.bench.endurance --bring-ups 200 [--datapath afxdp]
    sudo .venv/bin/python -m tests.bench.endurance --minutes 60 [--datapath afxdp]

A bring-up is a sandbox of its own with the default fabric up, a ping across the pods, and its end; afterwards the
machine's free memory, processes, network namespaces and temporary files are compared with what they were. A long run is
`netkv run` on requests for so many minutes, with links across pods 80 % full; meanwhile the memory and the open
descriptors of every process below it are read every ten seconds. Prints one JSON line at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from scenario import Scenario
from testbed.datapath import memory_bytes
from testbed.emulation import EmulationSpec
from testbed.fabric_up import bring_up
from testbed.sandbox import prepare_sandbox, python_in_sandbox, require_sandbox
from testbed.send_buffer import SendBufferLease
from tests.support.paths import environment

DEADLINE_S, LOOK_S = 120.0, 10.0
PACKAGES = ("controller", "testbed", "workers", "experiments")
REQUESTS_A_MINUTE = 206
"""Of the default workload."""
LOADED = {"congestion.kind": "constant", "congestion.utilisation": 0.7}
"""With the transfers of round-robin, links across pods are 80 % full."""


def state() -> dict[str, int]:
    """What a sandbox could leave behind."""
    spaces = {os.readlink(place) for place in Path("/proc").glob("[0-9]*/ns/net") if place.is_symlink()}
    return {
        "free_bytes": memory_bytes("MemAvailable"),
        "processes": sum(1 for _ in Path("/proc").glob("[0-9]*")),
        "network_namespaces": len(spaces),
        "temporary_files": sum(1 for _ in Path(tempfile.gettempdir()).glob("netkv*")),
    }


def inside(emulation: dict[str, Any]) -> None:
    """One bring-up, within its sandbox."""
    prepare_sandbox()
    fabric, _ = Scenario().build()
    up = bring_up(fabric, EmulationSpec.model_validate(emulation), poll_s=0.1, ecmp_seed=0)
    up.run_in(0, "ping", "-c", "1", "-W", "5", up.address(len(fabric.instances) - 1))


def bring_ups(count: int, emulation: dict[str, Any]) -> dict[str, Any]:
    before, took_s, failed = state(), [], []
    command = python_in_sandbox("tests.bench.endurance", "--inside", json.dumps(emulation))
    with SendBufferLease():
        for number in range(count):
            began_s = time.monotonic()
            done = subprocess.run(
                command, env=environment(), capture_output=True, text=True, timeout=DEADLINE_S, check=False
            )
            took_s.append(time.monotonic() - began_s)
            if done.returncode:
                failed.append({"number": number, "said": done.stderr.strip().splitlines()[-1:]})
            if sys.stderr.isatty() or number % 20 == 19:
                print(f"{number + 1} of {count}, {len(failed)} failed", file=sys.stderr, flush=True)
    time.sleep(1.0)
    after = state()
    return {
        "bring_ups": count,
        "failed": failed,
        "median_s": median(took_s),
        "first_ten_s": median(took_s[:10]),
        "last_ten_s": median(took_s[-10:]),
        "grown": {name: after[name] - before[name] for name in before},
    }


def long_run(minutes: float, emulation: dict[str, Any], folder: Path) -> dict[str, Any]:
    before, seen = state(), _Seen()
    settings = [word for name, value in (emulation | LOADED).items() for word in ("--set", f"{name}={value}")]
    length = ("--requests", str(round(minutes * REQUESTS_A_MINUTE)), "--policy", "round_robin", "--quiet")
    command = [sys.executable, "-m", "experiments.cli", "run", *length, *settings]
    emulated, fluid = folder / "emulated", folder / "fluid"
    with subprocess.Popen([*command, "--out", str(emulated)]) as running:
        while running.poll() is None:
            time.sleep(LOOK_S)
            seen.look(running.pid)
    print(json.dumps({"exit_code": running.returncode, "processes": seen.table()}), file=sys.stderr, flush=True)
    subprocess.run([*command, "--world", "analytic", "--out", str(fluid)], check=True)
    manifest = json.loads((emulated / "manifest.json").read_text())
    evidence, after = manifest["evidence"], state()
    return {
        "exit_code": running.returncode,
        "verdict": manifest["verdict"],
        "reasons": manifest["verdict_reasons"],
        "replaying_s": evidence["wall_s"]["replaying"],
        "lost_frames": evidence["lost_frames"],
        "links_across_pods_use": evidence["congestion"]["tiers"]["3"]["total"],
        "transfers_over_fluid_by_quarter": _quarters(emulated, fluid),
        "processes": seen.table(),
        "grown": {name: after[name] - before[name] for name in before},
    }


def _quarters(emulated: Path, fluid: Path) -> list[float]:
    """The sum of all transfers' times over the fluid model's, of each quarter of the requests."""
    took_ms = [
        pd.read_parquet(folder / "requests.parquet").set_index("request_id").sort_index()["kv_transfer_ms"]
        for folder in (emulated, fluid)
    ]
    parts = [np.array_split(column.to_numpy(), 4) for column in took_ms]
    return [round(float(np.nansum(here) / np.nansum(there)), 3) for here, there in zip(*parts, strict=True)]


class _Seen:
    """Resident memory and open descriptors of every process below a command, look by look (proc_pid_stat(5))."""

    def __init__(self) -> None:
        self.looks = 0
        self.names: dict[int, str] = {}
        self.found: dict[int, list[tuple[int, int, int]]] = {}

    def look(self, ancestor: int) -> None:
        self.looks += 1
        parent_of, pages = {}, {}
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(FileNotFoundError, ProcessLookupError):
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                parent_of[int(place.name)], pages[int(place.name)] = int(fields[1]), int(fields[21])
        for process in pages:
            if _is_below(process, ancestor, parent_of):
                with suppress(FileNotFoundError, ProcessLookupError):
                    place = Path("/proc") / str(process)
                    self.names.setdefault(process, _role((place / "cmdline").read_text(errors="replace").split("\0")))
                    descriptors = sum(1 for _ in (place / "fd").iterdir())
                    memory_bytes = pages[process] * os.sysconf("SC_PAGESIZE")
                    self.found.setdefault(process, []).append((self.looks, memory_bytes, descriptors))

    def table(self) -> dict[str, Any]:
        """By role, of the processes there from the first tenth of the looks to the end: how many, and what grew.

        From the median of the second tenth to that of the last but one: before, everything is still starting, and
        after it is ending.
        """
        tenth = max(1, self.looks // 10)
        rows: dict[str, Any] = {}
        for process, looks in self.found.items():
            early = [look[1:] for look in looks if tenth <= look[0] < 2 * tenth]
            late = [look[1:] for look in looks if self.looks - 2 * tenth <= look[0] < self.looks - tenth]
            if len(early) < tenth // 2 + 1 or len(late) < tenth // 2 + 1:
                continue
            (from_bytes, from_files), (to_bytes, to_files) = (
                [median(column) for column in zip(*part, strict=True)] for part in (early, late)
            )
            row = rows.setdefault(self.names[process], {"processes": 0, "MB": [0, 0], "most_grown": 0.0, "files": 0})
            row["processes"] += 1
            row["MB"] = [round(row["MB"][0] + from_bytes / 1e6, 1), round(row["MB"][1] + to_bytes / 1e6, 1)]
            row["most_grown"] = max(row["most_grown"], round(to_bytes / from_bytes - 1, 4))
            row["files"] += round(to_files - from_files)
        return rows


def _is_below(process: int, ancestor: int, parent_of: dict[int, int]) -> bool:
    while process in parent_of and process != ancestor:
        process = parent_of[process]
    return process == ancestor


def _role(words: list[str]) -> str:
    """What a process is, by its command line: the module that Python runs, else the program."""
    if "-m" in words:
        return words[words.index("-m") + 1]
    return next((word for word in words[1:] if word.split(".")[0] in PACKAGES), Path(words[0]).name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bring-ups", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--datapath", default="afxdp")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        inside(json.loads(given.inside))
        return 0
    require_sandbox()
    if given.bring_ups:
        print(json.dumps(bring_ups(given.bring_ups, {"datapath": given.datapath})), flush=True)
    if given.minutes:
        with tempfile.TemporaryDirectory() as folder:
            found = long_run(given.minutes, {"emulation.datapath": given.datapath}, Path(folder))
        print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
