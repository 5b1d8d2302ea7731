"""Continuous batching by hand, and against a plain restatement of its rules."""

import doctest
import math
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers import batch as batch_module
from workers.batch import Admitted, Batch, Event, Finished, FirstToken, MarkedToken, Rejected, StepEnded
from workers.steps import StepTable


def as_long_as_running(running: int) -> float:
    """A step of one second a request, so that every sum below is exact."""
    return float(running)


def make_batch(slots: int = 64, memory_tokens: int = 1_000_000) -> Batch:
    return Batch(as_long_as_running, slots, memory_tokens)


def tokens_s(events: list[Event]) -> dict[int, list[float]]:
    return {event.request_id: event.token_s for event in events if isinstance(event, Finished)}


def admissions(events: list[Event]) -> list[tuple[int, float]]:
    return [(event.request_id, event.at_s) for event in events if isinstance(event, Admitted)]


def test_the_example_in_the_docstring_holds() -> None:
    assert doctest.testmod(batch_module).failed == 0


def test_a_lone_request_steps_from_its_admission() -> None:
    batch = make_batch()
    assert batch.offer(1, 10, 3, now_s=5.0) == [Admitted(1, 5.0)]
    assert batch.next_boundary_s == 6.0
    assert batch.advance(100.0) == [
        StepEnded(0, 6.0, 1),
        FirstToken(1, 6.0),
        StepEnded(1, 7.0, 1),
        StepEnded(2, 8.0, 1),
        Finished(1, 8.0, 0, [6.0, 7.0, 8.0]),
    ]
    assert batch.next_boundary_s is None


def test_a_marked_token_is_told_when_it_is_out() -> None:
    batch = make_batch()
    batch.offer(1, 10, 3, now_s=0.0, marks=(2, 3))
    batch.offer(2, 10, 9, now_s=0.0, marks=(2,))
    told = [event for event in (*batch.cancel(2, 1.0), *batch.advance(100.0)) if isinstance(event, MarkedToken)]
    assert told == [MarkedToken(1, 3.0), MarkedToken(1, 4.0)]  # the first step has both in it


def test_a_newcomer_joins_at_the_next_boundary_and_slows_the_step() -> None:
    batch = make_batch()
    batch.offer(1, 10, 3, now_s=0.0)
    assert batch.offer(2, 10, 2, now_s=0.5) == []
    events = batch.advance(100.0)
    assert admissions(events) == [(2, 1.0)]
    assert tokens_s(events) == {1: [1.0, 3.0, 5.0], 2: [3.0, 5.0]}


def test_requests_of_the_same_instant_share_the_first_step() -> None:
    batch = make_batch()
    assert batch.offer(1, 10, 1, now_s=0.0) == [Admitted(1, 0.0)]
    assert batch.offer(2, 10, 2, now_s=0.0) == [Admitted(2, 0.0)]
    assert tokens_s(batch.advance(100.0)) == {1: [2.0], 2: [2.0, 3.0]}


def test_an_offer_at_a_boundary_joins_there() -> None:
    batch = make_batch()
    batch.offer(1, 10, 2, now_s=0.0)
    assert batch.offer(2, 10, 1, now_s=1.0) == [StepEnded(0, 1.0, 1), FirstToken(1, 1.0), Admitted(2, 1.0)]
    assert tokens_s(batch.advance(100.0)) == {1: [1.0, 3.0], 2: [3.0]}


def test_a_taken_slot_makes_the_next_one_wait() -> None:
    batch = make_batch(slots=1)
    batch.offer(1, 10, 2, now_s=0.0)
    batch.offer(2, 10, 1, now_s=0.25)
    assert (batch.running, batch.waiting) == (1, 1)
    events = batch.advance(100.0)
    assert admissions(events) == [(2, 2.0)]
    assert tokens_s(events) == {1: [1.0, 2.0], 2: [3.0]}


def test_memory_is_reserved_for_context_and_output() -> None:
    batch = make_batch(memory_tokens=20)
    batch.offer(1, 8, 2, now_s=0.0)
    assert batch.free_tokens == 10
    batch.offer(2, 8, 3, now_s=0.0)
    events = batch.advance(100.0)
    assert admissions(events) == [(2, 2.0)]
    assert batch.free_tokens == 20


def test_a_request_that_does_not_fit_blocks_those_behind_it() -> None:
    batch = make_batch(memory_tokens=20)
    batch.offer(1, 8, 2, now_s=0.0)
    batch.offer(2, 18, 1, now_s=0.5)
    batch.offer(3, 1, 1, now_s=0.5)
    assert admissions(batch.advance(100.0)) == [(2, 2.0), (3, 3.0)]


def test_a_request_that_can_never_fit_is_rejected_and_harms_nobody() -> None:
    batch = make_batch(memory_tokens=20)
    (event,) = batch.offer(1, 20, 1, now_s=0.0)
    assert isinstance(event, Rejected)
    assert batch.offer(2, 19, 1, now_s=0.0) == [Admitted(2, 0.0)]


def test_cancelling_frees_the_room_at_the_next_boundary() -> None:
    batch = make_batch(slots=2)
    batch.offer(1, 10, 5, now_s=0.0)
    batch.offer(2, 10, 5, now_s=0.0)
    batch.offer(3, 10, 1, now_s=0.0)
    assert batch.cancel(1, now_s=1.0) == []
    events = batch.advance(4.0)
    assert admissions(events) == [(3, 2.0)]
    assert tokens_s(events) == {3: [4.0]}
    assert 1 not in batch


def test_cancelling_the_last_running_request_ends_its_step_unheard() -> None:
    batch = make_batch(memory_tokens=20)
    batch.offer(1, 8, 2, now_s=0.0)
    batch.offer(2, 18, 1, now_s=0.0)
    assert batch.cancel(1, now_s=0.5) == [Admitted(2, 0.5)]
    assert batch.advance(100.0) == [StepEnded(0, 1.5, 1), FirstToken(2, 1.5), Finished(2, 1.5, 0, [1.5])]


def test_a_cancelled_request_may_come_again() -> None:
    batch = make_batch()
    batch.offer(1, 10, 3, now_s=0.0)
    batch.cancel(1, now_s=0.5)
    batch.cancel(99, now_s=0.5)
    batch.offer(1, 10, 2, now_s=0.5)
    assert tokens_s(batch.advance(100.0)) == {1: [1.5, 2.5]}


def test_a_batch_that_is_never_idle_remembers_no_more_than_its_requests_need() -> None:
    """Else a decode worker at a high load grows for as long as its run lasts."""
    batch = make_batch(slots=2)
    for number in range(1000):
        batch.offer(number, 10, 20, now_s=10.0 * number)
    assert batch.running == 2
    assert len(batch._log) <= 20


def test_misuse_is_refused() -> None:
    batch = make_batch()
    batch.offer(1, 10, 3, now_s=1.0)
    with pytest.raises(ValueError, match="already queued or running"):
        batch.offer(1, 10, 3, now_s=1.0)
    with pytest.raises(ValueError, match="backwards"):
        batch.advance(0.5)
    with pytest.raises(ValueError, match="output token"):
        batch.offer(2, 10, 0, now_s=1.0)
    with pytest.raises(ValueError, match="slot"):
        Batch(as_long_as_running, 0, 10)


OFFERS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 8), st.integers(1, 5)), max_size=12)


def by_the_rules(offers: list[tuple[int, int, int]], slots: int, memory_tokens: int) -> dict[int, list[float]]:
    """The same rules, one step at a time, with no state between steps but the two queues."""
    arrivals = deque((at_s, i, context, output) for i, (at_s, context, output) in enumerate(offers))
    waiting: deque[tuple[int, int, int]] = deque()
    running: dict[int, tuple[int, int]] = {}
    token_s: dict[int, list[float]] = {i: [] for i in range(len(offers))}
    now_s = 0.0
    while arrivals or waiting or running:
        if not waiting and not running:
            now_s = max(now_s, arrivals[0][0])
        while arrivals and arrivals[0][0] <= now_s:
            waiting.append(arrivals.popleft()[1:])
        while waiting and len(running) < slots:
            request_id, context, output = waiting[0]
            if sum(tokens for tokens, _ in running.values()) + context + output > memory_tokens:
                break
            waiting.popleft()
            running[request_id] = (context + output, output)
        now_s += len(running)
        for request_id in running:
            token_s[request_id].append(now_s)
        running = {i: size for i, size in running.items() if len(token_s[i]) < size[1]}
    return token_s


@given(OFFERS, st.integers(1, 4), st.integers(13, 40))
def test_every_token_comes_when_the_rules_say(offers: list[tuple[int, int, int]], slots: int, memory: int) -> None:
    offers = sorted(offers, key=lambda offer: offer[0])
    batch = make_batch(slots, memory)
    events: list[Event] = []
    for request_id, (at_s, context, output) in enumerate(offers):
        events += batch.offer(request_id, context, output, float(at_s))
    events += batch.advance(math.inf)
    assert tokens_s(events) == by_the_rules(offers, slots, memory)
    assert [request_id for request_id, _ in admissions(events)] == list(range(len(offers)))
    assert (batch.running, batch.waiting, batch.free_tokens) == (0, 0, memory)


@given(OFFERS)
def test_being_called_at_every_boundary_or_late_changes_nothing(offers: list[tuple[int, int, int]]) -> None:
    punctual, late = make_batch(slots=3), make_batch(slots=3)
    punctual_events: list[Event] = []
    late_events: list[Event] = []
    for request_id, (at_s, context, output) in enumerate(sorted(offers, key=lambda offer: offer[0])):
        while punctual.next_boundary_s is not None and punctual.next_boundary_s <= at_s:
            punctual_events += punctual.advance(punctual.next_boundary_s)
        punctual_events += punctual.offer(request_id, context, output, float(at_s))
        late_events += late.offer(request_id, context, output, float(at_s))
    while punctual.next_boundary_s is not None:
        punctual_events += punctual.advance(punctual.next_boundary_s)
    assert punctual_events == late_events + late.advance(math.inf)


@pytest.mark.parametrize(("running", "step_s"), [(1, 0.030), (16, 0.034), (24, 0.0365), (64, 0.050), (96, 0.061)])
def test_step_times_are_read_between_and_beyond_the_points(running: int, step_s: float) -> None:
    table = StepTable.parse("1:0.030,16:0.034,32:0.039,64:0.050")
    assert table.step_s(running) == pytest.approx(step_s)


def test_a_step_table_holds_before_its_first_point_and_dilates() -> None:
    assert StepTable.parse("8:0.5", time_dilation=3.0).step_s(1) == 1.5
    assert StepTable.parse("8:0.5,16:0.6").step_s(1) == 0.5


@pytest.mark.parametrize("text", ["", "1", "1:x", "0:0.1", "1:0", "1:0.2,2:0.1", "2:0.1,2:0.2", "1:inf", "1:nan"])
def test_a_senseless_step_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="step table"):
        StepTable.parse(text)
