"""Ten thousand KV transfers on real packets, two hundred at a time: does each end once, and does anything grow?

    sudo .venv/bin/python -m tests.bench.heavy [--transfers 10000] [--at-once 200] [--period-s 2.5]
        [--prompt-tokens 1000]

One `netkv run` of bursts: in each, `--at-once` prompts of one length arrive together and are prefilled at once, so that
all their transfers share the fabric; the next burst comes `--period-s` after it. Meanwhile the memory and the
descriptors of every process of the run are read once a second. Prints how the requests ended, how many transfers were
under way together, what `netkv check` found, and, by what a process is, the memory and descriptors of the largest one
early and late in the time in which all workers lived. Exit code 1 when a request has not ended exactly once, completed,
when an invariant is broken, or when at no moment `--at-once` transfers were under way together.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.checking import check_folder
from testbed.sandbox import require_sandbox
from tests.support.killing.plan import role_of

PROMPT_TOKENS = 1000
"""0.33 GB of KV at the default model: 66 kB a transfer at the default scale, 13 MB a burst of 200."""

LOOK_S = 1.0
EARLY = 0.1
"""Share of the looks with all workers after which the first of the two that are compared is taken."""

COMMAND_LINE = "experiments.cli"


class Held(NamedTuple):
    """What a process holds: resident memory in bytes, open file descriptors, and what it is."""

    memory_bytes: int
    descriptors: int
    role: str


def write_trace(place: Path, transfers: int, at_once: int, period_s: float, tokens: int) -> None:
    """A trace in Mooncake's format: bursts of equal prompts that share nothing."""
    rows = (
        {"timestamp": round(1000 * period_s * (number // at_once)), "input_length": tokens, "output_length": 2}
        for number in range(transfers)
    )
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))


def command(trace: Path, transfers: int, out: Path) -> list[str]:
    settings = {
        "workload.arrivals": "raw",
        "workload.time_unit": "ms",
        "serving.prefill": "at_once",
        "serving.transfer": "full",
        "serving.stripes": "1",
        "congestion.kind": "none",
    }
    named = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    run = ("run", "--policy", "round_robin", "--trace", str(trace), "--requests", str(transfers), *named)
    return [sys.executable, "-m", COMMAND_LINE, *run, "--out", str(out), "--quiet"]


def held_below(ancestor: int) -> dict[int, Held]:
    """Every process at or below one that lives now, but for what has no memory of its own (proc_pid_stat(5))."""
    parent_of: dict[int, int] = {}
    found: dict[int, Held] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            descriptors = len(os.listdir(place / "fd"))
        except OSError:
            continue
        process = int(place.name)
        parent_of[process] = int(fields[1])
        role = "command line" if COMMAND_LINE in line else role_of(line)
        found[process] = Held(int(fields[21]) * os.sysconf("SC_PAGESIZE"), descriptors, role)

    def below(process: int) -> bool:
        while process in parent_of and process != ancestor:
            process = parent_of[process]
        return process == ancestor

    return {process: held for process, held in found.items() if held.memory_bytes and below(process)}


def growth(looks: Sequence[Mapping[int, Held]]) -> dict[str, dict[str, Any]]:
    """By role, of the processes that live at both instants: how many, and the largest one's memory and descriptors."""
    workers = [sum(held.role == "worker" for held in look.values()) for look in looks]
    whole = [look for look, count in zip(looks, workers, strict=True) if count == max(workers)]
    early, late = whole[int(EARLY * len(whole))], whole[-1]
    both = sorted(early.keys() & late.keys(), key=lambda process: late[process].memory_bytes)
    rows: dict[str, dict[str, Any]] = {}
    for process in both:
        before, after = early[process], late[process]
        row = rows.setdefault(after.role, {"processes": 0, "most_descriptors_more": 0})
        row["processes"] += 1
        row["largest_MB"] = [round(one.memory_bytes / 1e6, 1) for one in (before, after)]
        row["descriptors"] = [before.descriptors, after.descriptors]
        row["most_descriptors_more"] = max(row["most_descriptors_more"], after.descriptors - before.descriptors)
    return rows


def together(started_s: np.ndarray, ended_s: np.ndarray) -> dict[str, float]:
    """How many transfers were under way: the most, and the mean over the time in which there were any.

    Those without an end are left out.
    """
    known = ~np.isnan(started_s + ended_s)
    started_s, ended_s = started_s[known], ended_s[known]
    at_s = np.concatenate([started_s, ended_s])
    step = np.concatenate([np.ones(len(started_s)), -np.ones(len(ended_s))])
    order = np.lexsort((step, at_s))
    count, lasts_s = np.cumsum(step[order])[:-1], np.diff(at_s[order])
    busy_s = lasts_s[count > 0].sum()
    return {"most": float(count.max()), "mean": float((count * lasts_s).sum() / busy_s), "busy_s": float(busy_s)}


def judged(out: Path, transfers: int) -> dict[str, Any]:
    """What the records of the run say."""
    requests, decisions = (pd.read_parquet(out / f"{name}.parquet") for name in ("requests", "decisions"))
    manifest = json.loads((out / "manifest.json").read_text())
    sent = decisions.set_index("request_id")["transfer_started_s"].reindex(requests["request_id"]).to_numpy(float)
    took_s = requests["kv_transfer_ms"].to_numpy(float) / 1e3
    violations = [str(one) for found in check_folder(out).values() for one in found]
    once = len(requests) == transfers == requests["request_id"].nunique() == decisions["request_id"].nunique()
    evidence = manifest["evidence"]
    return {
        "ended": {str(name): int(count) for name, count in requests["status"].value_counts().items()},
        "each_once": bool(once),
        "violations": violations[:5],
        "transfers_together": together(sent, sent + took_s),
        "transfer_s_median_p99": [round(float(np.nanpercentile(took_s, share)), 3) for share in (50, 99)],
        "kv_wire_bytes": evidence["kv_wire_bytes"],
        "delivered_bytes": evidence["delivered_bytes"],
        "retransmitted": evidence["retransmitted"],
        "verdict": manifest["verdict"],
        "reasons": manifest["verdict_reasons"],
        "replaying_s": evidence["wall_s"]["replaying"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transfers", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=200)
    parser.add_argument("--period-s", type=float, default=2.5)
    parser.add_argument("--prompt-tokens", type=int, default=PROMPT_TOKENS)
    given = parser.parse_args()
    require_sandbox()
    with tempfile.TemporaryDirectory(prefix="netkv-heavy-") as folder:
        trace, out = Path(folder) / "bursts.jsonl", Path(folder) / "run"
        write_trace(trace, given.transfers, given.at_once, given.period_s, given.prompt_tokens)
        looks: list[dict[int, Held]] = []
        with subprocess.Popen(command(trace, given.transfers, out)) as running:
            while running.poll() is None:
                time.sleep(LOOK_S)
                looks.append(held_below(running.pid))
        if running.returncode not in (0, 1):
            return 1
        found = judged(out, given.transfers) | {"growth": growth(looks)}
    print(json.dumps(found, indent=1))
    whole = found["each_once"] and found["ended"] == {"completed": given.transfers} and not found["violations"]
    return 0 if whole and found["transfers_together"]["most"] >= given.at_once else 1


if __name__ == "__main__":
    sys.exit(main())
