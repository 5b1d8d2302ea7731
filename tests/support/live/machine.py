"""What a machine needs for live tests, and how idle it is."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

STAT = Path("/proc/stat")
TOOLS = ("ovs-vswitchd", "mnexec", "unshare", "setpriv", "ethtool", "tc")


def require() -> None:
    """Root and Open vSwitch: without them a live test fails, and says why."""
    if os.geteuid() != 0:
        pytest.fail("live tests need root for their network namespaces: run them with sudo", pytrace=False)
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=path) is None]
    if missing:
        pytest.fail(f"live tests need {', '.join(missing)}: run ./provision.sh", pytrace=False)


LOOK_S = 0.5
BUSY_PROCESSORS = 0.5
"""Kept busy by others while no test runs: beyond that a measurement of speed is not to be believed."""


def busy_processors() -> float:
    """How many processors are busy now, over `LOOK_S` in which the caller does nothing (proc_stat(5))."""
    before = _busy_ticks()
    time.sleep(LOOK_S)
    return (_busy_ticks() - before) / os.sysconf("SC_CLK_TCK") / LOOK_S


def _busy_ticks() -> int:
    user, nice, system, _idle, _waiting, interrupts, soft, steal = map(int, STAT.read_text().split()[1:9])
    return user + nice + system + interrupts + soft + steal
