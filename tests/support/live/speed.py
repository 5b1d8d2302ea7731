"""When a live test may speak of speed: only where its own run can be trusted.

A run that is not `valid` is made once more. If the second is not valid either, what does not depend on speed is still
asserted, and an assertion of speed that fails says that the machine was busy, not a wrong number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import pytest

Run = TypeVar("Run")


def made_at_most_twice(make: Callable[[int], Run], reasons_of: Callable[[Run], Sequence[str]]) -> Run:
    """The first run without a reason to doubt it, of two; else the second. `make` is told the attempt, 0 or 1."""
    first = make(0)
    return make(1) if reasons_of(first) else first


@contextmanager
def speed_of_a_run(reasons: Sequence[str]) -> Iterator[None]:
    """Around assertions of speed. `reasons`: why the verdict of their run is not `valid`; none if it is."""
    try:
        yield
    except AssertionError as error:
        if reasons:
            pytest.fail(f"the machine was busy, twice, so nothing is known of speed: {reasons[0]}\n{error}", False)
        raise
