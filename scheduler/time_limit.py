"""A limit on the wall time that a user's code may take.

The interval timer of the process interrupts Python code, a sleep or a blocking system call in the main thread; a
compiled loop that never returns to the interpreter it cannot. Off the main thread nothing is interrupted: the caller
measures how long it took.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_S = 0.1
"""The alarm repeats until the code has been left: a bare `except` in it may have swallowed the first."""


class TimeLimitPassed(BaseException):
    """Raised inside the code that took too long."""


@contextmanager
def time_limit(limit_s: float) -> Iterator[None]:
    """Raise TimeLimitPassed in the body after `limit_s` seconds of wall time; the earlier timer is restored."""
    try:
        before = signal.signal(signal.SIGALRM, _raise)
    except ValueError:  # not the main thread
        yield
        return
    left_s, interval_s = signal.setitimer(signal.ITIMER_REAL, limit_s, AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left_s, interval_s)


def _raise(number: int, frame: FrameType | None) -> None:
    raise TimeLimitPassed
