"""What the tests of life and death need: a world in a process of its own, found by a mark, and the host's state."""

from __future__ import annotations

import fcntl
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from testbed.send_buffer import LEASE, SETTING
from tests.support.paths import ROOT

MARK = "NETKV_TEST_WORLD"
NAMESPACE_KINDS = ("net", "pid", "mnt")

SETTINGS = (
    "net/ipv4/tcp_congestion_control",
    "net/ipv4/tcp_no_metrics_save",
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/disable_ipv6",
    "net/ipv6/conf/default/disable_ipv6",
    "net/core/rmem_default",
    "net/core/rmem_max",
    "net/core/wmem_max",
    "net/core/netdev_max_backlog",
    "kernel/pty/max",
    "fs/file-max",
)
"""What the testbed writes inside its namespaces, and what plain Mininet would write outside them."""

OPEN_VSWITCH = ("/run/openvswitch", "/etc/openvswitch", "/var/log/openvswitch")


class World:
    """`world_driver` as a process whose descendants all carry a mark in their environment, wherever they live."""

    def __init__(self, rounds: int, requests: int) -> None:
        self._mark = f"{MARK}={uuid.uuid4()}"
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.live.world_driver", str(rounds), str(requests)],
            cwd=ROOT,
            env={**os.environ, **dict([self._mark.split("=")])},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def wait_for(self, prefix: str, deadline_s: float = 90.0) -> str:
        """What follows `prefix` on the next line that has it."""
        until_s = time.monotonic() + deadline_s
        while True:
            line = self._lines.get(timeout=max(until_s - time.monotonic(), 0.0))
            if line is None:
                raise EOFError(f"the world ended before it said {prefix!r}")
            if line.startswith(prefix):
                return line.removeprefix(prefix).strip()

    def outcome(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.wait_for("outcome"))
        return found

    def kill_after(self, delay_s: float) -> None:
        """SIGKILL, unless it ends by itself before."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(delay_s)
        self.process.kill()
        self.process.wait()

    def processes(self) -> set[int]:
        """Every living process of this world, the guardian of its send buffer among them."""
        return processes_with(self._mark)

    def namespaces(self) -> set[str]:
        """The namespaces in which they live, without the host's own."""
        return namespaces_of(self._mark)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)


def processes_with(mark: str) -> set[int]:
    """Every living process whose environment holds a mark such as `NAME=value`."""
    return {pid for pid in _processes() if mark in _environment(pid)}


def namespaces_of(mark: str) -> set[str]:
    """The namespaces, other than the host's, in which processes with a mark live."""
    host = {_namespace("self", kind) for kind in NAMESPACE_KINDS}
    return {_namespace(str(pid), kind) for pid in processes_with(mark) for kind in NAMESPACE_KINDS} - host - {""}


def sandboxes_of(mark: str) -> set[str]:
    """The process namespaces, other than the host's, in which processes with a mark live: one a sandbox."""
    return {_namespace(str(pid), "pid") for pid in processes_with(mark)} - {_namespace("self", "pid"), ""}


def inhabited(namespaces: set[str]) -> set[str]:
    """Those of some namespaces in which any process of the machine lives."""
    return namespaces & {_namespace(str(pid), kind) for pid in _processes() for kind in NAMESPACE_KINDS}


def send_buffer_is_given_back(original_B: str) -> bool:
    """Whether the host's setting is as before, or rightly still held for somebody else's run."""
    try:
        lease = os.open(LEASE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return SETTING.read_text().strip() == original_B
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lease)
    return False


def original_send_buffer() -> str:
    """The host's own setting, also while runs have changed it."""
    try:
        return LEASE.read_text().strip()
    except FileNotFoundError:
        return SETTING.read_text().strip()


def host_state() -> dict[str, Any]:
    """All of the host that a run could touch, the send buffer apart."""
    return {
        "links": _said("ip", "-o", "link"),
        "addresses": re.sub(r"\d+sec", "", _said("ip", "-o", "address")),
        "routes": _said("ip", "route", "show", "table", "all"),
        "queues": _said("tc", "qdisc"),
        "mounts": Path("/proc/self/mounts").read_text(),
        "settings": {name: _setting(name) for name in SETTINGS},
        "run": sorted(entry.name for entry in Path("/run").iterdir() if entry != LEASE),
        "namespaces": sorted(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else [],
        "switches": {path: sorted(os.listdir(path)) for path in OPEN_VSWITCH if os.path.isdir(path)},
    }


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout


def _setting(name: str) -> str:
    path = Path("/proc/sys") / name
    return path.read_text().strip() if path.exists() else ""


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _environment(pid: int) -> list[str]:
    """Empty for a process that is gone, or a zombie."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _namespace(pid: str, kind: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""
