"""Precedence over the machine's other work, whoever started it.

Linux shares the processors between sessions before it looks at the processes in them, so the nice value of a daemon,
which has a session of its own, counts for nothing against the rest of the machine; that of its session does (sched(7),
"The autogroup feature"). Where the kernel has no such groups the daemon's own value is what counts.
"""

from __future__ import annotations

from pathlib import Path

PROC = Path("/proc")


def set_session_priority(pid: int, nice: int, proc: Path = PROC) -> bool:
    """Give the session of process `pid` the nice value `nice`; False where the kernel has no groups of sessions.

    OSError where that is refused.
    """
    group = proc / str(pid) / "autogroup"
    if not group.exists():
        return False
    group.write_text(f"{nice}\n", encoding="ascii")
    return True
