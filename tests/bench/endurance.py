"""Many bring-ups in a row, and one long run: does anything leak, and does a daemon die?

    sudo .venv/bin/python -m tests.bench.endurance --bring-ups 200 [--datapath afxdp]
    sudo .venv/bin/python -m tests.bench.endurance --minutes 30 [--datapath afxdp]

A bring-up is a sandbox of its own with the default fabric up, a ping across the pods, and its end; afterwards the
machine's free memory, processes, network namespaces and temporary files are compared with what they were. A long run is
`netkv run` on requests for so many minutes; meanwhile the memory of its ovs-vswitchd and of its controller is read
every ten seconds. Prints one JSON line at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from scenario import Scenario
from testbed.datapath import memory_bytes
from testbed.emulation import EmulationSpec
from testbed.fabric_up import bring_up
from testbed.sandbox import prepare_sandbox, python_in_sandbox, require_root
from testbed.send_buffer import SendBufferLease
from tests.support.paths import environment

DEADLINE_S, LOOK_S = 120.0, 10.0
WATCHED = ("ovs-vswitchd", "controller.launch")
REQUESTS_A_MINUTE = 206
"""Of the default workload."""


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


def long_run(minutes: float, emulation: dict[str, Any]) -> dict[str, Any]:
    before, memory = state(), {name: [] for name in WATCHED}
    settings = [word for name, value in emulation.items() for word in ("--set", f"emulation.{name}={value}")]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        length = ("--requests", str(round(minutes * REQUESTS_A_MINUTE)), "--policy", "netkv_full")
        command = [sys.executable, "-m", "experiments.cli", "run", *length, *settings, "--out", str(run)]
        with subprocess.Popen(command) as running:
            while running.poll() is None:
                time.sleep(LOOK_S)
                for name, found in _resident_bytes(running.pid).items():
                    memory[name].append(found)
        manifest = json.loads((run / "manifest.json").read_text())
    after = state()
    return {
        "exit_code": running.returncode,
        "verdict": manifest["verdict"],
        "reasons": manifest.get("reasons", []),
        "replaying_s": manifest["evidence"]["wall_s"]["replaying"],
        "lost_frames": manifest["evidence"]["lost_frames"],
        "memory_MB_first_middle_last": {
            name: [round(seen[at] / 1e6) for at in (0, len(seen) // 2, -2)] for name, seen in memory.items()
        },
        "grown": {name: after[name] - before[name] for name in before},
    }


def _resident_bytes(ancestor: int) -> dict[str, int]:
    """Resident memory of the watched processes below a process, by name (proc_pid_stat(5))."""
    parent_of, name_of, pages = {}, {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            line = (place / "cmdline").read_text(errors="replace").replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        process = int(place.name)
        parent_of[process], pages[process] = int(fields[1]), int(fields[21])
        name_of[process] = next((name for name in WATCHED if name in line), "")

    def below(process: int) -> bool:
        while process in parent_of and process != ancestor:
            process = parent_of[process]
        return process == ancestor

    found = [process for process, name in name_of.items() if name and below(process)]
    return {name_of[process]: pages[process] * os.sysconf("SC_PAGESIZE") for process in found}


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
    require_root()
    emulation = {"datapath": given.datapath}
    if given.bring_ups:
        print(json.dumps(bring_ups(given.bring_ups, emulation)), flush=True)
    if given.minutes:
        print(json.dumps(long_run(given.minutes, emulation)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
