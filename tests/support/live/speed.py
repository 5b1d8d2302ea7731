"""When a live test may speak of speed: only where its own run can be trusted.

A run of which the verdict says that the machine did other work is made once more. If the second is no better, what does
not depend on speed is still asserted; what does is told as a warning, by `MachineBusyWarning`: of a machine that others
share it would be a wrong number, not a fault of ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from testbed.verdict import OTHER_WORK

Run = TypeVar("Run")


class MachineBusyWarning(UserWarning):
    """Nothing is known of a speed, because the machine was busy with other work, twice."""


def doubts(reasons: Sequence[str]) -> list[str]:
    """Those reasons of a verdict that other work on the machine explains."""
    return [reason for reason in reasons if OTHER_WORK in reason]


def made_at_most_twice(make: Callable[[int], Run], reasons_of: Callable[[Run], Sequence[str]]) -> Run:
    """The first run that other work has not disturbed, of two; else the second. `make` is told the attempt, 0 or 1."""
    first = make(0)
    return make(1) if doubts(reasons_of(first)) else first


@contextmanager
def speed_of_a_run(reasons: Sequence[str]) -> Iterator[None]:
    """Around assertions of speed. `reasons`: why the verdict of their run is not `valid`; none if it is."""
    try:
        yield
    except AssertionError as error:
        if not (busy := doubts(reasons)):
            raise
        text = f"the machine was busy, twice, so nothing is known of speed: {busy[0]}\n{error}"
        warnings.warn(text, MachineBusyWarning, stacklevel=3)
