"""How long a command takes to start, beside `python -c "import numpy"`, which no run can do without."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.bench_ratios import Ratios

NETKV = str(Path(sys.executable).with_name("netkv"))
TIMES = 5
COMPLETION = {"_NETKV_COMPLETE": "complete_bash", "COMP_WORDS": "netkv run --policy net", "COMP_CWORD": "3"}
COMMANDS: Mapping[str, tuple[Sequence[str], Mapping[str, str], float | None]] = {
    'python -c "import numpy"': ([sys.executable, "-c", "import numpy"], {}, None),
    "netkv --help": ([NETKV, "--help"], {}, 0.4),
    "netkv run --speed 9 (a bad option)": ([NETKV, "run", "--speed", "9"], {}, 0.4),
    "netkv run --policy net<Tab>": ([NETKV], COMPLETION, 0.4),
    "netkv run --world analytic --requests 100": (
        [NETKV, "run", "--world", "analytic", "--requests", "100", "--out"],
        {},
        1.5,
    ),
}
"""Each with what it adds to the environment and how long it may take on a machine of two slow cores, seconds."""


def took_s(command: Sequence[str], environment: Mapping[str, str], place: Path) -> float:
    words = [*command, str(place)] if command[-1] == "--out" else [*command]
    began_s = time.perf_counter()
    subprocess.run(words, env={**os.environ, **environment}, capture_output=True, check=False)
    return time.perf_counter() - began_s


def test_start_times(ratios: Ratios, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    (python, *of_netkv), all_s = COMMANDS, {}
    for name, (command, environment, limit_s) in COMMANDS.items():
        took_s(command, environment, tmp_path / "warm")  # compiled code and the disk's cache
        times_s = [took_s(command, environment, tmp_path / f"{name[:9]}-{k}") for k in range(TIMES)]
        all_s[name] = times_s
        rows.append((name, statistics.median(times_s), min(times_s), limit_s))
    for name in of_netkv:
        ratios.note(f"start: {name}", python, all_s[python], all_s[name])
    with capsys.disabled():  # held to the least: other work on the machine only ever slows a command down
        print(f"\n{'seconds, median and least of ' + str(TIMES):<44} {'median':>7} {'least':>7} {'at most':>8}")
        for name, median_s, least_s, limit_s in rows:
            print(f"{name:<44} {median_s:7.2f} {least_s:7.2f} {'' if limit_s is None else format(limit_s, '8.1f')}")
    assert all(limit_s is None or least_s <= limit_s for *_, least_s, limit_s in rows)
