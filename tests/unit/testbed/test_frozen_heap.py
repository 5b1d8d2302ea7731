"""Garbage collection leaves what was there before a run alone, and only while it is on."""

from __future__ import annotations

import gc
import weakref

from testbed.frozen_heap import frozen_heap


class Circle:
    """What only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


def test_what_is_there_is_left_alone_and_what_is_made_meanwhile_is_not() -> None:
    before = Circle()
    gone_before = weakref.ref(before)
    with frozen_heap():
        assert gc.get_freeze_count() > 1000
        del before
        gone_meanwhile = weakref.ref(Circle())
        gc.collect()
        assert gone_before() is not None
        assert gone_meanwhile() is None
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert gone_before() is None
