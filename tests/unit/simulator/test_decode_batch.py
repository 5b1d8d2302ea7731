"""The closed-form batch against the one that steps, `workers.batch.Batch`, which states the rules."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.decode_batch import BatchEvent, DecodeBatch, Joined, Left, Marked
from workers import batch as stepping

SLOTS, MEMORY_TOKENS = 4, 100
LATE_S = 1e6

StepTime = Callable[[int], float]


class Arrival(NamedTuple):
    at_s: float
    context_tokens: int
    output_tokens: int
    marks: tuple[int, ...]


class History(NamedTuple):
    """What became of requests 0, 1, 2...: who joined when, first and last token, marks, and the gaps."""

    admitted: list[tuple[int, float]]
    first_token_s: dict[int, float]
    finished: list[tuple[int, float]]
    marked: list[tuple[int, float]]
    gaps: list[int]


def dyadic(running: int) -> float:
    """Steps whose sums are exact in binary, so that simultaneous events really are."""
    return 0.5 + 0.25 * running


def decimal(running: int) -> float:
    """Steps whose sums are not."""
    return 0.03 + 0.0007 * running


def arrivals(tick_s: float) -> st.SearchStrategy[list[Arrival]]:
    some = st.builds(
        lambda ticks, context, output, every: Arrival(
            ticks * tick_s, context, output, tuple(range(every, output + 1, every))
        ),
        *(st.integers(0, 120), st.integers(0, MEMORY_TOKENS - 40), st.integers(1, 40), st.integers(1, 30)),
    )
    return st.lists(some, max_size=25).map(sorted)


def step_by_step(work: list[Arrival], step_s: StepTime) -> History:
    batch = stepping.Batch(step_s, SLOTS, MEMORY_TOKENS)
    events: list[stepping.Event] = []
    for request_id, arrival in enumerate(work):
        events += batch.offer(request_id, *arrival[1:3], arrival.at_s, arrival.marks)
    events += batch.advance(LATE_S)
    running_at = {event.at_s: event.running for event in events if isinstance(event, stepping.StepEnded)}
    done = [event for event in events if isinstance(event, stepping.Finished)]
    gaps = [0] * (SLOTS + 1)
    for event in done:
        for _, token_s in pairwise(event.token_s):
            gaps[running_at[token_s]] += 1
    return History(
        [(event.request_id, event.at_s) for event in events if isinstance(event, stepping.Admitted)],
        {event.request_id: event.token_s[0] for event in done},
        [(event.request_id, event.at_s) for event in done],
        [(event.request_id, event.at_s) for event in events if isinstance(event, stepping.MarkedToken)],
        gaps,
    )


def by_jumps(work: list[Arrival], step_s: StepTime) -> History:
    gaps = [0] * (SLOTS + 1)
    batch = DecodeBatch(step_s, SLOTS, MEMORY_TOKENS, gaps)
    events: list[BatchEvent] = []
    for request_id, arrival in enumerate(work):
        events += batch.offer(request_id, *arrival[1:3], arrival.at_s, arrival.marks)
    events += batch.advance(LATE_S)
    assert (batch.running, batch.waiting) == (0, 0)
    done = [event for event in events if isinstance(event, Left)]
    return History(
        [(event.request_id, event.at_s) for event in events if isinstance(event, Joined)],
        {event.request_id: event.first_token_s for event in done},
        [(event.request_id, event.at_s) for event in done],
        [(event.request_id, event.at_s) for event in events if isinstance(event, Marked)],
        gaps,
    )


@given(arrivals(tick_s=0.125))
def test_jumping_is_stepping(work: list[Arrival]) -> None:
    assert by_jumps(work, dyadic) == step_by_step(work, dyadic)


@given(arrivals(tick_s=0.01001))
def test_jumping_is_stepping_up_to_rounding(work: list[Arrival]) -> None:
    jumped, stepped = by_jumps(work, decimal), step_by_step(work, decimal)
    assert [who for who, _ in jumped.admitted] == [who for who, _ in stepped.admitted]
    assert [at_s for _, at_s in jumped.admitted] == pytest.approx([at_s for _, at_s in stepped.admitted], rel=1e-9)
    assert jumped.first_token_s == pytest.approx(stepped.first_token_s, rel=1e-9)
    assert dict(jumped.finished) == pytest.approx(dict(stepped.finished), rel=1e-9)
    assert [who for who, _ in jumped.marked] == [who for who, _ in stepped.marked]
    assert [at_s for _, at_s in jumped.marked] == pytest.approx([at_s for _, at_s in stepped.marked], rel=1e-9)
    assert jumped.gaps == stepped.gaps


def test_a_request_of_a_million_tokens_is_two_events() -> None:
    gaps = [0, 0]
    batch = DecodeBatch(lambda _: 0.25, slots=1, memory_tokens=1_000_000, gaps=gaps)
    assert batch.offer(7, 0, 1_000_000, now_s=1.0) == [Joined(7, 1.0)]
    assert batch.advance(LATE_S) == [Left(7, 250_001.0, first_token_s=1.25)]
    assert gaps == [0, 999_999]


def test_what_could_never_fit_is_refused() -> None:
    batch = DecodeBatch(dyadic, SLOTS, MEMORY_TOKENS, [0] * (SLOTS + 1))
    with pytest.raises(ValueError, match="request 3: 101 tokens exceed the memory of 100 tokens"):
        batch.offer(3, 100, 1, now_s=0.0)


@given(arrivals(0.25), st.data())
def test_who_leaves_the_queue_makes_room_for_who_is_behind(work: list[Arrival], data: st.DataObject) -> None:
    closed = DecodeBatch(dyadic, SLOTS, MEMORY_TOKENS, [0] * (SLOTS + 1))
    stepping_batch = stepping.Batch(dyadic, SLOTS, MEMORY_TOKENS)
    seen: list[BatchEvent] = []
    expected: list[stepping.Event] = []
    for request_id, arrival in enumerate(work):
        seen += closed.offer(request_id, arrival.context_tokens, arrival.output_tokens, arrival.at_s)
        expected += stepping_batch.offer(request_id, arrival.context_tokens, arrival.output_tokens, arrival.at_s)
        if stepping_batch.waiting and data.draw(st.booleans()):
            waiting = list(stepping_batch._waiting)
            leaves = waiting[data.draw(st.integers(0, len(waiting) - 1))]
            seen += closed.withdraw(leaves, arrival.at_s)
            expected += stepping_batch.cancel(leaves, arrival.at_s)
    seen += closed.advance(LATE_S)
    expected += stepping_batch.advance(LATE_S)
    joined = [(event.request_id, event.at_s) for event in seen if isinstance(event, Joined)]
    assert joined == [(event.request_id, event.at_s) for event in expected if isinstance(event, stepping.Admitted)]
    left = [(event.request_id, event.at_s) for event in seen if isinstance(event, Left)]
    assert left == [(event.request_id, event.at_s) for event in expected if isinstance(event, stepping.Finished)]
