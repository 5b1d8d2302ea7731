"""What a live test says of speed, by the verdict of its own run."""

from __future__ import annotations

import pytest

from tests.support.live.speed import made_at_most_twice, speed_of_a_run


@pytest.mark.parametrize(("doubts", "made"), [([[]], 0), ([["busy"], []], 1), ([["busy"], ["busy"]], 1)])
def test_a_run_that_cannot_be_trusted_is_made_once_more(doubts: list[list[str]], made: int) -> None:
    assert made_at_most_twice(lambda attempt: attempt, doubts.__getitem__) == made


def test_a_wrong_speed_of_a_valid_run_is_a_wrong_speed() -> None:
    with pytest.raises(AssertionError, match="too slow"), speed_of_a_run([]):
        raise AssertionError("too slow")


def test_a_wrong_speed_of_another_run_says_that_the_machine_was_busy() -> None:
    words = r"the machine was busy, twice.*: timers fired late"
    with pytest.raises(pytest.fail.Exception, match=words), speed_of_a_run(["timers fired late"]):
        raise AssertionError("too slow")


def test_what_holds_on_a_busy_machine_too_passes() -> None:
    with speed_of_a_run(["timers fired late"]):
        pass
