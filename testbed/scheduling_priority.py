"""Scheduling priority of a process's session over the other sessions of the machine.

Linux first divides the processors among sessions and then among the processes of each (sched(7), "The autogroup
feature"). A daemon has its own session, so not its nice value but that of its session counts against other work. Where
the kernel has no such groups, the daemon's own nice value counts.
"""

from __future__ import annotations

from pathlib import Path

PROC = Path("/proc")


def set_session_priority(pid: int, nice: int, proc: Path = PROC) -> bool:
    """Set the nice value of the session of process `pid`; False where the kernel has no session groups.

    OSError when the kernel refuses it.
    """
    group = proc / str(pid) / "autogroup"
    if not group.exists():
        return False
    group.write_text(f"{nice}\n", encoding="ascii")
    return True
