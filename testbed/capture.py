"""Captures of a run: tcpdump on the ports of chosen links, inside the sandbox, to files that Wireshark opens.

A capture has the headers of every frame in both directions of a port, and the number of frames that the kernel dropped.
"""

from __future__ import annotations

import re
import selectors
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from testbed.errors import TestbedError
from topologies import Fabric, Link
from topologies.mininet import meter_of

SNAPLEN_B = 128
"""Ethernet, IPv4 and TCP headers with all options are 94 bytes at most; payload is zeros."""

BUFFER_KIB = 16_384
"""Kernel buffer of one capture (tcpdump(1), -B): about 100,000 frames, one second while tcpdump has no processor."""

START_DEADLINE_S = 10.0
STOP_DEADLINE_S = 10.0

LISTENING = "listening on"
COUNT = re.compile(r"^(\d+) packets? (captured|dropped by kernel)$", re.MULTILINE)
"""What tcpdump prints when it ends."""


class CaptureOrder(NamedTuple):
    """What to capture during a run: links by name, and an existing folder of the host for the files."""

    links: tuple[str, ...]
    folder: str


class Captures:
    """Captures one port for each link, as a context manager.

    `rows`, afterwards: one mapping for each link with `link`, `file` (its name in `folder`), `frames` and `dropped`
    (frames that tcpdump did not get). TestbedError when tcpdump is missing, fails or does not answer.
    """

    def __init__(self, fabric: Fabric, order: CaptureOrder, split: bool = False) -> None:
        self._ports = {name: port_of(fabric, fabric.link_by_name[name], split) for name in order.links}
        self._folder = Path(order.folder)
        self._running: dict[str, subprocess.Popen[str]] = {}
        self.rows: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        try:
            for link, interface in self._ports.items():
                self._running[link] = _start(interface, self._folder / file_name(link))
            for link, process in self._running.items():
                _wait_until_listening(link, process)
        except BaseException:
            for process in self._running.values():
                process.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGINT)
        for link, process in self._running.items():
            try:
                _, words = process.communicate(timeout=STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise TestbedError(f"the capture of {link} did not end within {STOP_DEADLINE_S:g} s") from problem
            counts = {what: int(number) for number, what in COUNT.findall(words)}
            if "captured" not in counts:
                raise TestbedError(f"the capture of {link} failed: {_last_line(words)}") from problem
            row = {"link": link, "file": file_name(link), "frames": counts["captured"]}
            self.rows.append(row | {"dropped": counts.get("dropped by kernel", 0)})


def file_name(link: str) -> str:
    """The name of a link's capture: `tor0>agg1` is in `tor0-agg1.pcap`."""
    return f"{link.replace('>', '-')}.pcap"


def port_of(fabric: Fabric, link: Link, split: bool = False) -> str:
    """The switch port at a link's source, or at its target if the source is a host (in its own namespace)."""
    return meter_of(link, fabric, split) or f"{link.target}-eth{link.target_port}"


def _start(interface: str, file: Path) -> subprocess.Popen[str]:
    command = ("tcpdump", "-i", interface, "-n", "-s", str(SNAPLEN_B), "-B", str(BUFFER_KIB), "-Z", "root")
    try:
        return subprocess.Popen(
            ["nice", *command, "-w", str(file)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    except FileNotFoundError as problem:
        raise TestbedError(f"{problem.filename} is not installed: run ./provision.sh") from None


def _wait_until_listening(link: str, process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    with selectors.DefaultSelector() as waiting:
        waiting.register(process.stderr, selectors.EVENT_READ)
        if not waiting.select(START_DEADLINE_S):
            raise TestbedError(f"the capture of {link} did not start within {START_DEADLINE_S:g} s")
    words = process.stderr.readline()
    if LISTENING not in words:
        words += process.stderr.read()
        raise TestbedError(f"the capture of {link} did not start: {_last_line(words)}; run ./provision.sh")


def _last_line(words: str) -> str:
    lines = words.strip().splitlines()
    return lines[-1] if lines else "no message from tcpdump"
