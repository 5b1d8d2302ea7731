"""One fabric on two machines, a pod each: stand-ins, each with switches and a clock of its own, joined by tunnels.

What only several machines have; the facts of one machine are judged on both in `test_fabric`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
import uuid
from contextlib import suppress
from typing import Any

import pytest

from testbed.machines import CLOCKS_APART_S, VXLAN_B
from testbed.port_watch import ETHERNET_BYTES
from testbed.sandbox import python_in_sandbox
from tests.support.live.lab import wait_until
from tests.support.live.worlds import host_state, inhabited, namespaces_of, processes_with, sandboxes_of
from tests.support.paths import ROOT

pytestmark = [pytest.mark.live, pytest.mark.slow]

Numbers = dict[str, Any]

MACHINES = 2
GONE_S = 30.0
MARK = "NETKV_TEST_MACHINES"


def test_every_frame_that_enters_a_tunnel_leaves_it(measured_on_two_machines: Numbers) -> None:
    joint = measured_on_two_machines["joint"]
    assert len(joint["sent"]) == 2 * 4  # both directions of one cable of each core
    assert min(count["packets"] for count in joint["sent"].values()) > 100
    assert joint["received"] == joint["sent"]


def test_a_tunnel_adds_its_headers_to_every_frame_and_no_more(measured_on_two_machines: Numbers) -> None:
    joint = measured_on_two_machines["joint"]
    counted_B, frames = (sum(count[what] for count in joint["sent"].values()) for what in ("bytes", "packets"))
    added_B = joint["carried_bytes"] / frames - (counted_B / frames + ETHERNET_BYTES)  # which a tunnel's end leaves out
    assert added_B == pytest.approx(VXLAN_B, abs=1.0)


def test_another_machines_clock_is_known_to_a_tenth_of_a_millisecond_and_keeps_pace(
    measured_on_two_machines: Numbers,
) -> None:
    own, other = measured_on_two_machines["clocks"]
    assert (own["ahead_s"], own["now_s"]) == (0.0, 0.0)
    for ahead, error in (("ahead_s", "error_s"), ("now_s", "error_now_s")):
        assert other[error] < 1e-4
        assert abs(other[ahead] - CLOCKS_APART_S) <= other[error]


def test_one_oracle_knows_the_load_of_links_on_both_machines(measured_on_two_machines: Numbers) -> None:
    seen = measured_on_two_machines["load_on_a_path"]
    assert (seen["complete"], seen["silent"]) == (True, [])
    loaded = {name for name, said_bps in seen["said_bps"].items() if said_bps > 0.5 * seen["truth_bps"]}
    assert loaded in [set(path) for path in seen["paths"]]
    assert {seen["machine_of"][name] for name in loaded} == set(range(MACHINES))
    for name in loaded:
        assert seen["said_bps"][name] == pytest.approx(seen["truth_bps"], rel=0.05), name


TAKEN = 12
"""Measurements, of seven seconds each, of a driver that is to be killed before it has taken them all."""


@pytest.mark.parametrize("longest_s", [8.0, 30.0])
def test_a_killed_driver_leaves_no_machine(live_machine: None, longest_s: float) -> None:
    before, mark = host_state(), f"{MARK}={uuid.uuid4()}"
    task = json.dumps({"fabric": {}, "emulation": {"datapath": "user"}, "machines": MACHINES})
    victim = subprocess.Popen(
        python_in_sandbox("tests.support.live.probe", task, *["bisection"] * TAKEN),
        cwd=ROOT,
        env={**os.environ, **dict([mark.split("=")])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: len(sandboxes_of(mark)) == MACHINES, GONE_S, "the second machine")
        delay_s = random.uniform(0, longest_s)
        print(f"killed after {delay_s:.2f} s")
        time.sleep(delay_s)
        namespaces = namespaces_of(mark)
        assert victim.poll() is None
        victim.kill()
        victim.wait()
        wait_until(lambda: not processes_with(mark) and not inhabited(namespaces), GONE_S, "the end of every process")
    finally:
        for pid in processes_with(mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert host_state() == before
