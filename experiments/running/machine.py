"""What a result was made with: versions, commit, machine."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("netkv-testbed", "ryu", "os-ken", "eventlet", "numpy", "pandas", "pyarrow", "numba", "scapy", "pydantic")
ROUTERS = ("ai-dynamo-runtime", "sglang-router", "vllm-router", "mooncake-transfer-engine-non-cuda")
"""Of the extras: named where they are installed."""
DEADLINE_S = 5.0
ROOT = Path(__file__).parents[2]


@lru_cache
def versions() -> dict[str, str]:
    """Versions of the interpreter, the kernel, Open vSwitch, Mininet and our Python packages."""
    found = {"python": platform.python_version(), "kernel": platform.release()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    for package in ROUTERS:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    found["openvswitch"] = _said("ovs-vswitchd", "--version").partition("\n")[0].rpartition(" ")[2] or "missing"
    found["mininet"] = _said("dpkg-query", "--show", "--showformat=${Version}", "mininet") or "missing"
    return found


@lru_cache
def git_commit() -> str | None:
    """The commit of the project, with `-dirty` when the work tree differs from it; None outside a checkout.

    With `-unpacked` in an archive of `make artifact`, which cannot tell whether it was changed. As this process first
    found it: what it runs is what it had loaded, whatever is committed meanwhile.
    """
    root = str(ROOT)
    with suppress(OSError):
        return f"{(ROOT / 'COMMIT').read_text(encoding='utf-8').strip()}-unpacked"
    commit = _said("git", "-C", root, "rev-parse", "HEAD")
    if not commit:
        return None
    return f"{commit}-dirty" if _said("git", "-C", root, "status", "--porcelain", "--untracked-files=no") else commit


def describe_machine() -> dict[str, object]:
    """Processor, cores and memory; no name, no address."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cores": os.cpu_count(), "memory_GiB": round(memory / 2**30, 1), "processor": _processor()}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
