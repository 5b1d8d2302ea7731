"""The virtual machine, judged from inside: the kernel's datapath carries our fabric, and delays, marks and conserves.

`make test-vm` runs these in a guest whose processor is emulated, so nothing here asserts how fast anything is, and the
links are slow enough for it.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.live.in_a_sandbox import probe

pytestmark = [pytest.mark.live, pytest.mark.optional, pytest.mark.timeout(900)]

SMALL = {"pods": 2, "racks_per_pod": 1, "servers_per_rack": 2}
"""Eight instances and fourteen switches, four of them cores: a third of the time to build."""

SLOW = {"rate_scale": 20_000.0, "bringup_deadline_s": 400.0}
DELAY_MS = 10.0
MODULES = ("openvswitch", "sch_htb", "sch_netem", "sch_red", "cls_bpf", "tcp_dctcp")


@pytest.fixture(scope="module")
def guest(live_machine: None) -> dict[str, Any]:
    """What a probe measures on a small fabric with everything that only this kernel has."""
    emulation = {**SLOW, "datapath": "auto", "link_delay_ms": DELAY_MS, "queue": "ecn", "congestion_control": "dctcp"}
    wanted = ("datapaths", "rates", "reach", "round_trips", "cores", "small_transfers", "ecn")
    return probe(emulation, *wanted, fabric=SMALL)


def test_the_kernel_has_what_the_testbed_may_ask_for() -> None:
    loaded = {line.split()[0] for line in Path("/proc/modules").read_text().splitlines()}
    assert set(MODULES) <= loaded


def test_switches_run_in_the_kernel(guest: dict[str, Any]) -> None:
    assert guest["datapaths"].startswith("system@ovs-system:")
    assert guest["datapaths"].count("    core") >= 4


def test_the_controller_connects_every_pair(guest: dict[str, Any]) -> None:
    reach = guest["reach"]
    assert len(reach) == 8
    assert all(set(taken) == set(reach) - {source} for source, taken in reach.items())


def test_every_core_carries_traffic(guest: dict[str, Any]) -> None:
    assert len(guest["cores"]) == 4
    assert min(guest["cores"].values()) > 0


def test_every_link_is_shaped_and_delayed(guest: dict[str, Any]) -> None:
    for interface, shaped in guest["rates"].items():
        assert shaped["rate"] == shaped["ceil"] == pytest.approx(shaped["asked"], rel=1e-3), interface
    for trip in guest["round_trips"]:
        assert trip["least_s"] >= trip["links"] * DELAY_MS / 1e3


def test_bytes_are_conserved(guest: dict[str, Any]) -> None:
    for transfer in guest["small_transfers"]:
        assert transfer["received_bytes"] == transfer["bytes"]
        assert set(transfer["carriers"]) in [set(path) for path in transfer["paths"]]


def test_dctcp_runs_and_full_queues_mark(guest: dict[str, Any]) -> None:
    assert guest["ecn"]["congestion_control"] == ["dctcp"] * 4
    assert guest["ecn"]["marked"] > 0
    assert guest["ecn"]["heard"] > 0


def test_a_bare_run_would_have_links_of_gigabits() -> None:
    plan = json.loads(subprocess.run(["netkv", "plan", "--json"], capture_output=True, check=True).stdout)
    assert plan["links"]["server-tor"]["emulated_mbps"] == pytest.approx(1000)
