"""Scheduling priority: of a process's session over the other sessions of the machine, and of a thread in real time.

Linux first divides the processors among sessions and then among the processes of each (sched(7), "The autogroup
feature"). A daemon has its own session, so not its nice value but that of its session counts against other work. Where
the kernel has no such groups, the daemon's own nice value counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.errors import TestbedError

PROC = Path("/proc")

REALTIME_PRIORITY = 1
"""Of prefill and decode workers, and of the driver while it serves requests: their timers fire, and decisions are made,
on time even while the switches and the controller keep the machine busy."""


def set_session_priority(pid: int, nice: int, proc: Path = PROC) -> bool:
    """Set the nice value of the session of process `pid`; False where the kernel has no session groups.

    OSError when the kernel refuses it.
    """
    group = proc / str(pid) / "autogroup"
    if not group.exists():
        return False
    group.write_text(f"{nice}\n", encoding="ascii")
    return True


@contextmanager
def realtime_thread(priority: int) -> Iterator[None]:
    """Run the calling thread at a real-time priority meanwhile (sched(7)), but not the threads and processes it starts.

    TestbedError when the kernel refuses it.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except OSError as error:
        raise TestbedError(f"cannot run at real-time priority {priority}: {error.strerror}; run as root") from None
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
