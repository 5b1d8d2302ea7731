"""Ends a run or a bring-up whose switches have lost the daemon that forwards for them, before its deadline does."""

from __future__ import annotations

import asyncio
from pathlib import Path

from testbed.errors import BrokenRunError
from testbed.vswitchd import RUN_FOLDER

LOOK_S = 0.5
ENDED = "ZX"
"""States of a process that has ended and nobody has asked after (proc_pid_stat(5))."""


async def watch_forwarding(folder: Path = RUN_FOLDER) -> None:
    """Look until cancelled. BrokenRunError when one of the ovs-vswitchd that run now has ended."""
    running = forwarders(folder)
    while True:
        await asyncio.sleep(LOOK_S)
        await asyncio.to_thread(check_forwarders, running)


def forwarders(folder: Path = RUN_FOLDER) -> dict[str, str]:
    """The pid of every ovs-vswitchd that runs here, by its name."""
    return {file.name.removesuffix(".pid"): file.read_text().strip() for file in folder.glob("ovs-vswitchd*.pid")}


def check_forwarders(running: dict[str, str]) -> None:
    """BrokenRunError when one of them has ended."""
    if ended := [name for name, pid in running.items() if _has_ended(pid)]:
        raise BrokenRunError(f"{ended[0]} has ended: nothing forwards any more")


def _has_ended(pid: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in ENDED
