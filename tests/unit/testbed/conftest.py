"""A machine whose abilities do not depend on the one that runs the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from testbed import datapath


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One without the kernel module that can have ports of AF_XDP: 8 GB of memory, half of it free, two processors.

    In the folder, a file `openvswitch` stands for the loaded module.
    """
    memory = tmp_path / "meminfo"
    memory.write_text("MemTotal:       8000000 kB\nMemAvailable:   4000000 kB\n")
    monkeypatch.setattr(datapath, "KERNEL_MODULE", tmp_path / "openvswitch")
    monkeypatch.setattr(datapath, "MEMORY", memory)
    monkeypatch.setattr(datapath, "_kernel_has_afxdp", lambda: True)
    monkeypatch.setattr(datapath, "_vswitchd_has_afxdp", lambda: True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    return tmp_path
