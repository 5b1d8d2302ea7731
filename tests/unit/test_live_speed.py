"""What a live test says of speed, by the verdict of its own run."""

from __future__ import annotations

import pytest

from testbed.verdict import LESS_WORK
from tests.support.live.speed import MachineBusyWarning, made_at_most_twice, speed_of_a_run

BUSY = f"timers fired late; {LESS_WORK}"
OTHERWISE = "the switches showed another path"


@pytest.mark.parametrize(
    ("reasons", "made"), [([[]], 0), ([[OTHERWISE]], 0), ([[BUSY], []], 1), ([[OTHERWISE, BUSY], [BUSY]], 1)]
)
def test_a_run_that_other_work_disturbed_is_made_once_more(reasons: list[list[str]], made: int) -> None:
    assert made_at_most_twice(lambda attempt: attempt, reasons.__getitem__) == made


@pytest.mark.parametrize("reasons", [[], [OTHERWISE]])
def test_a_wrong_speed_that_other_work_does_not_explain_is_a_wrong_speed(reasons: list[str]) -> None:
    with pytest.raises(AssertionError, match="too slow"), speed_of_a_run(reasons):
        raise AssertionError("too slow")


def test_a_wrong_speed_of_a_disturbed_run_is_told_and_not_judged() -> None:
    words = r"the machine was busy, twice.*: timers fired late"
    with pytest.warns(MachineBusyWarning, match=words), speed_of_a_run([OTHERWISE, BUSY]):
        raise AssertionError("too slow")


def test_what_holds_on_a_busy_machine_too_passes() -> None:
    with speed_of_a_run([BUSY]):
        pass
