"""`netkv doctor --telemetry` on real switches, through the command line as a user types it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

import pytest

pytestmark = pytest.mark.live

NETKV = Path(sys.executable).with_name("netkv")
SMALL = ("--set", "fabric.racks_per_pod=1", "--set", "emulation.rate_scale=5000")
"""A rack a pod: 8 instances on 14 switches."""

DEADLINE_S = 100


def test_it_watches_a_fabric_and_tells_what_telemetry_gives_and_costs() -> None:
    steady = ("--congestion", "constant", "--set", "congestion.utilisation=0.4")
    done = subprocess.run(
        [NETKV, "doctor", "--telemetry", "--seconds", "4", "--json", *steady, *SMALL],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["switches"], told["poll_s"]) == (14, 0.1)
    assert len(told["looks"]) == 4
    first, *_, last = told["looks"]
    assert last["complete"]
    assert (last["switches_missing"], last["links_down"]) == ([], [])
    means = [look["tiers"][3]["mean"] for look in told["looks"][1:]]
    assert median(means) == pytest.approx(0.4, rel=0.1)  # of a second of paced traffic
    assert last["tiers"][3]["mean"] == pytest.approx(0.4, rel=0.15)  # the traffic outlasts the last look
    assert last["tiers"][3]["mean"] <= last["tiers"][3]["highest"] <= 1.05
    assert 0 < last["round_trip_ms"]["p50"] <= last["round_trip_ms"]["p99"] < 100
    assert 0 < last["sample_age_ms"]["mean"] <= last["sample_age_ms"]["highest"] < 250
    asked = last["polls_answered"] + last["polls_missed"] - first["polls_answered"] - first["polls_missed"]
    watched_s = sum(look["seconds"] for look in told["looks"][1:])
    assert asked == pytest.approx(14 * watched_s / 0.1, rel=0.1)
    assert 0 < last["controller_cpu"] < 0.5
    assert 20_000 < last["control_bytes_per_s"] < 200_000


def test_an_interrupt_ends_it_with_one_line_and_leaves_nothing() -> None:
    command = [str(NETKV), "doctor", "--telemetry", "--seconds", "60", *SMALL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert "round trip p50" in running.stdout.readline()
        sandbox = below(running.pid)
        assert sandbox
        running.send_signal(signal.SIGINT)
        _, complaint = running.communicate(timeout=DEADLINE_S)
    assert running.returncode == 130
    assert complaint.splitlines() == ["netkv: interrupted; finished runs are kept (--resume continues a sweep)"]
    until_s = time.monotonic() + 10
    while any(Path(f"/proc/{process}").exists() for process in sandbox) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{process}").exists() for process in sandbox)


def below(process: int) -> list[int]:
    """All processes that a process has started, and those that they have."""
    parent_of = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parent_of[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    found, left = [], [process]
    while left:
        parent = left.pop()
        mine = [child for child, its in parent_of.items() if its == parent]
        found += mine
        left += mine
    return found
