"""Files that a user names, opened without waiting for ever: a pipe that nobody writes to is refused after a while."""

from __future__ import annotations

import io
import os
import select
import stat
from pathlib import Path

from workloads.request import WorkloadError

FIRST_BYTE_DEADLINE_S = 60.0
"""For the program at the other end of a pipe to write something."""


def open_in_time(path: Path, deadline_s: float = FIRST_BYTE_DEADLINE_S) -> io.BufferedReader:
    """A file, or a pipe into which somebody writes, for reading. WorkloadError names the path and the reason."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the name
        raise WorkloadError(f"{path}: {getattr(problem, 'strerror', None) or problem}") from None
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise WorkloadError(f"{path}: Is a directory")
        if not stat.S_ISREG(mode):
            _await_first_byte(path, handle, deadline_s)
        os.set_blocking(handle, True)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _await_first_byte(path: Path, handle: int, deadline_s: float) -> None:
    waiting = select.poll()
    waiting.register(handle, select.POLLIN)
    if not waiting.poll(deadline_s * 1e3):
        raise WorkloadError(
            f"{path}: a pipe into which nobody wrote for {deadline_s:g} s: start the program that writes, or name a"
            " file"
        )
