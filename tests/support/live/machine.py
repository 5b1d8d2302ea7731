"""What a machine needs for live tests, and how idle it is."""

from __future__ import annotations

import os
import shutil

import pytest

TOOLS = ("ovs-vswitchd", "mnexec", "unshare", "setpriv", "ethtool", "tc")


def require() -> None:
    """Root and Open vSwitch: without them a live test fails, and says why."""
    if os.geteuid() != 0:
        pytest.fail("live tests need root for their network namespaces: run them with sudo", pytrace=False)
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=path) is None]
    if missing:
        pytest.fail(f"live tests need {', '.join(missing)}: run ./provision.sh", pytrace=False)
