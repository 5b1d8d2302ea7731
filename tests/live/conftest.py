"""What the live tests share: a machine that can run them, and the numbers that probes in a sandbox have measured."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import ExitStack
from typing import Any

import pytest

from experiments.running.run_spec import parse_settings
from testbed.sandbox import python_in_sandbox
from testbed.send_buffer import LEASE, SendBufferLease, reclaim
from tests.support.live.lab import wait_until
from tests.support.paths import ROOT

PROBE_DEADLINE_S = 240.0
OTHERS_S = 120.0
DEFAULT_RUN = (
    *("datapaths", "documented_client", "rates", "reach", "transfers", "bisection", "oracle", "fast_shaper"),
    *("failed_core", "stopped_controller"),
)
TOOLS = ("ovs-vswitchd", "mnexec", "unshare", "setpriv", "ethtool", "tc")


@pytest.fixture(scope="session")
def live_machine() -> None:
    """Root and Open vSwitch: without them a live test fails, and says why."""
    if os.geteuid() != 0:
        pytest.fail("live tests need root for their network namespaces: run them with sudo", pytrace=False)
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=path) is None]
    if missing:
        pytest.fail(f"live tests need {', '.join(missing)}: run ./provision.sh", pytrace=False)


def in_sandbox(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of our modules to its end inside a new sandbox."""
    command = python_in_sandbox(module, *arguments)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PROBE_DEADLINE_S, check=False)


def probe(
    emulation: dict[str, Any], *measurements: str, fabric: dict[str, Any] | None = None, lease: bool = True
) -> dict[str, Any]:
    """Bring a fabric up, take measurements, and return their results by name."""
    task = json.dumps({"fabric": fabric or {}, "emulation": emulation})
    with ExitStack() as held:
        if lease:
            held.enter_context(SendBufferLease())
        done = in_sandbox("tests.support.live.probe", task, *measurements)
    results = {line["name"]: line["result"] for line in map(json.loads, done.stdout.splitlines())}
    missing = [name for name in measurements if name not in results]
    if missing:
        pytest.fail(f"the probe ended during {missing[0]}:\n{done.stderr[-2000:]}", pytrace=False)
    return results


@pytest.fixture(scope="session")
def emulation(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the command line says of the emulation; by itself, it is the usual one of this machine."""
    return parse_settings(request.config.getoption("--emulation"))


@pytest.fixture(scope="session")
def measured(live_machine: None, emulation: dict[str, Any]) -> dict[str, Any]:
    """The default fabric."""
    return probe(emulation, *DEFAULT_RUN)


@pytest.fixture(scope="session")
def select_groups(live_machine: None, emulation: dict[str, Any]) -> dict[str, Any]:
    """The same fabric with plain SELECT groups: the negative control of hashing."""
    return probe({**emulation, "ecmp": "select"}, "bisection")


@pytest.fixture(scope="session")
def deep_queues(live_machine: None, emulation: dict[str, Any]) -> dict[str, Any]:
    """The same fabric with queues of 1000 frames."""
    return probe({**emulation, "queue": "fifo", "queue_packets": 1000}, "isolation")


@pytest.fixture(scope="session")
def kernel_default(live_machine: None, emulation: dict[str, Any]) -> dict[str, Any]:
    """Deep queues without the send-buffer lease: the negative control of isolation. Waits for nobody to hold one."""
    for _ in range(3):
        reclaim()
        wait_until(lambda: not LEASE.exists(), OTHERS_S, "the end of other runs that hold the send buffer")
        found = probe({**emulation, "queue": "fifo", "queue_packets": 1000}, "isolation", lease=False)
        if not LEASE.exists():
            return found
    pytest.fail("other runs take the send buffer again and again", pytrace=False)
