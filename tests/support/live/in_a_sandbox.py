"""Runs our modules inside a sandbox, probes of a fabric among them, and hands back what they print."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from typing import Any

import pytest

from testbed.sandbox import python_in_sandbox
from testbed.send_buffer import SendBufferLease
from tests.support.live.machine import BUSY_PROCESSORS, busy_processors
from tests.support.paths import ROOT

PROBE_DEADLINE_S = 240.0


def in_sandbox(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of our modules to its end inside a new sandbox."""
    command = python_in_sandbox(module, *arguments)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PROBE_DEADLINE_S, check=False)


def probe(
    emulation: dict[str, Any],
    *measurements: str,
    fabric: dict[str, Any] | None = None,
    lease: bool = True,
    machines: int = 1,
) -> dict[str, Any]:
    """Bring a fabric up, take measurements, and return their results by name; again where the machine was busy.

    `busy_processors` is what others kept busy before or after, of the last try.
    """
    for _ in range(2):
        before = busy_processors()
        results = _probe({"fabric": fabric or {}, "emulation": emulation, "machines": machines}, measurements, lease)
        results["busy_processors"] = max(before, busy_processors())
        if results["busy_processors"] < BUSY_PROCESSORS:
            break
    return results


def _probe(task: dict[str, Any], measurements: tuple[str, ...], lease: bool) -> dict[str, Any]:
    with ExitStack() as held:
        if lease:
            held.enter_context(SendBufferLease())
        done = in_sandbox("tests.support.live.probe", json.dumps(task), *measurements)
    results = {line["name"]: line["result"] for line in map(json.loads, done.stdout.splitlines())}
    missing = [name for name in measurements if name not in results]
    if missing:
        pytest.fail(f"the probe ended during {missing[0]}:\n{done.stderr[-2000:]}", pytrace=False)
    return results
