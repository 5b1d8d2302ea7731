"""The life of a request, told by a world that only writes down what it is ordered."""

from __future__ import annotations

import math
from typing import Any

import pytest

from scenario import Scenario
from scheduler import Decision
from serving import Lifecycle, RequestRecord
from workloads import Request

FIRST, SECOND = Request(0, 1.0, 1000, 5, (0, 1)), Request(1, 1.5, 700, 1, (0, 2))


class Orders:
    """Movers that move nothing."""

    def __init__(self) -> None:
        self.prefills: list[tuple[int, int]] = []
        self.decisions: dict[int, Decision] = {}
        self.abandoned: list[tuple[int, int | None]] = []
        self.wakes: list[tuple[int, float]] = []

    def prefill(self, request: Request, prefill_id: int, prefill_s: float) -> None:
        assert prefill_s > 0
        self.prefills.append((request.request_id, prefill_id))

    def transfer(self, request: Request, decision: Decision) -> None:
        self.decisions[request.request_id] = decision

    def abandon(self, request_id: int, decode_id: int | None) -> None:
        self.abandoned.append((request_id, decode_id))

    def wake(self, request_id: int, at_s: float) -> None:
        self.wakes.append((request_id, at_s))


class Told:
    """A lifecycle, what it orders, and the requests that it said were over."""

    def __init__(self, *requests: Request, **changes: Any) -> None:
        scenario = Scenario(policy=changes.pop("policy", "round_robin"), **changes)
        self.orders = Orders()
        self.closed: list[int] = []
        fabric, roles = scenario.build()
        self.life = Lifecycle(scenario, fabric, roles, requests, self.orders, on_closed=self.closed.append)

    def record(self, request: Request) -> RequestRecord:
        return self.life.records[request.request_id]

    def up_to_selection(self, request: Request) -> int:
        """Arrived at its time, prefilled half a second later; its number."""
        self.life.arrive(request)
        self.life.prefill_started(request.request_id, request.timestamp_s + 0.1)
        self.life.prefilled(request.request_id, 0.4, request.timestamp_s + 0.5)
        return request.request_id

    def into_the_batch(self, request: Request) -> int:
        """Selected, moved and admitted; its number."""
        number = self.up_to_selection(request)
        self.life.sending(number, request.timestamp_s + 0.5)
        self.life.received(number, request.timestamp_s + 0.8)
        self.life.admitted(number, request.timestamp_s + 0.9)
        return number

    def waiting_and_running(self) -> tuple[int, int]:
        """What the scheduler's books hold."""
        seen = self.life.dispatcher._loads
        return int(seen.waiting.sum()), int(seen.running.sum())


def test_every_step_is_recorded_with_its_time() -> None:
    told = Told(FIRST)
    number = told.up_to_selection(FIRST)
    told.life.sending(number, 1.5)
    told.life.received(number, 1.8)
    told.life.admitted(number, 1.9)
    told.life.first_token(number, 2.0)
    told.life.finished(number, 2.0, 2.4)
    record = told.record(FIRST)
    steps = (record.queue_ms, record.prefill_ms, record.kv_transfer_ms, record.admission_ms, record.ttft_ms)
    assert steps == pytest.approx((100, 400, 300, 100, 1000))
    assert (record.tpot_ms, record.e2el_ms) == pytest.approx((100, 1400))
    assert (record.status, record.error) == ("completed", "")
    assert (record.prefill_id, record.decode_id) == (told.orders.prefills[0][1], told.orders.decisions[0].decode_id)
    assert told.life.decisions[0]["transfer_started_s"] == 1.5
    assert (told.life.done, told.closed, told.waiting_and_running()) == (True, [0], (0, 0))


def test_an_answer_of_one_token_has_no_time_between_tokens() -> None:
    asked = Request(7, 0.0, 100, 1, (0,))
    record = RequestRecord.of(asked, "cla")
    record.emitted(1.0, 1.0)
    assert math.isnan(record.tpot_ms)
    assert (record.ttft_ms, record.e2el_ms, record.status) == (1000, 1000, "completed")


def test_prefill_goes_to_the_instance_with_least_work() -> None:
    told = Told(FIRST, SECOND)
    told.life.arrive(FIRST)
    told.life.arrive(SECOND)
    assert told.orders.prefills[0][1] != told.orders.prefills[1][1]


def test_the_sender_may_report_last_of_all() -> None:
    told = Told(SECOND)
    number = told.up_to_selection(SECOND)
    told.life.received(number, 2.3)
    told.life.admitted(number, 2.3)
    told.life.finished(number, 2.4, 2.4)
    assert not told.life.done
    assert math.isnan(told.record(SECOND).kv_transfer_ms)
    told.life.sending(number, 2.1, source_ports=[4001])
    assert told.life.done
    assert told.record(SECOND).kv_transfer_ms == pytest.approx(200)
    assert told.life.decisions[number]["source_ports"] == [4001]


def test_what_moves_no_byte_takes_no_time() -> None:
    again = Request(2, 9.0, 1024, 5, (0, 1))
    first = Request(0, 1.0, 1024, 5, (0, 1))
    told = Told(first, again, policy="ca")
    number = told.up_to_selection(first)
    told.life.sending(number, 1.5)
    told.life.received(number, 1.6)
    number = told.up_to_selection(again)
    assert told.orders.decisions[number].kv_bytes == 0
    told.life.sending(number, 9.5)
    told.life.received(number, 9.501)  # a worker's answer takes a moment
    assert told.record(again).kv_transfer_ms == 0.0


def test_who_fits_nowhere_is_rejected_and_nothing_is_ordered() -> None:
    told = Told(FIRST, serving={"kv_memory_tokens": 900})
    told.up_to_selection(FIRST)
    assert told.record(FIRST).status == "rejected"
    assert "needs 1005 tokens" in told.record(FIRST).error
    assert (told.orders.decisions, told.life.done, told.closed) == ({}, True, [0])


@pytest.mark.parametrize("reached", ["transfer", "batch"])
def test_a_failure_frees_whatever_was_booked(reached: str) -> None:
    told = Told(FIRST)
    number = told.up_to_selection(FIRST)
    assert told.waiting_and_running() == (1, 0)
    if reached == "batch":
        told.life.sending(number, 1.5)
        told.life.received(number, 1.8)
        told.life.admitted(number, 1.9)
        assert told.waiting_and_running() == (0, 1)
    told.life.failed(number, "the link is down")
    told.life.failed(number, "and again")
    assert told.orders.abandoned == [(0, told.orders.decisions[0].decode_id)]
    assert (told.record(FIRST).status, told.record(FIRST).error) == ("failed", "the link is down")
    assert (told.life.done, told.waiting_and_running()) == (True, (0, 0))


def test_a_refusal_by_the_decode_instance_is_a_rejection() -> None:
    told = Told(FIRST)
    told.life.refused(told.up_to_selection(FIRST), "out of memory")
    assert (told.record(FIRST).status, told.record(FIRST).error) == ("rejected", "out of memory")
    assert told.waiting_and_running() == (0, 0)


def test_reports_of_what_is_over_change_nothing() -> None:
    told = Told(FIRST)
    number = told.up_to_selection(FIRST)
    told.life.failed(number, "lost")
    told.life.received(number, 5.0)
    told.life.admitted(number, 5.1)
    told.life.finished(number, 5.2, 5.3)
    record = told.record(FIRST)
    assert (record.status, record.error) == ("failed", "lost")
    assert math.isnan(record.e2el_ms)
    assert told.closed == [0]


def test_an_answer_that_is_complete_stays_so_whatever_the_sender_says() -> None:
    told = Told(SECOND)
    number = told.up_to_selection(SECOND)
    told.life.received(number, 2.3)
    told.life.admitted(number, 2.3)
    told.life.finished(number, 2.4, 2.4)
    told.life.failed(number, "the last acknowledgement was lost")
    assert told.record(SECOND).status == "completed"
    assert (told.orders.abandoned, told.life.done) == ([], True)


def test_a_policy_that_breaks_ends_the_run() -> None:
    told = Told(FIRST, SECOND, policy="tests.support.cluster_policies:Broken")
    told.life.arrive(SECOND)
    number = told.up_to_selection(FIRST)
    assert "Broken failed on request 0" in told.life.policy_error
    assert told.record(FIRST).error == told.life.policy_error
    assert "ended before it was finished" in told.record(SECOND).error
    assert (told.life.done, told.closed) == (True, [0, 1])
    told.life.prefilled(SECOND.request_id, 0.4, 3.0)  # on its way when the run ended
    assert number not in told.orders.decisions
    assert SECOND.request_id not in told.orders.decisions


def test_at_the_deadline_what_is_open_fails_and_an_answer_that_comes_later_is_none() -> None:
    told = Told(FIRST, SECOND)
    number = told.into_the_batch(FIRST)
    told.life.give_up("not finished at the run's deadline")
    assert [record.error for record in told.life.records.values()] == ["not finished at the run's deadline"] * 2
    assert told.life.done
    told.life.first_token(number, 130.1)  # of a worker that was stopped, and is let go when the run is over
    told.life.finished(number, 130.1, 130.2)
    record = told.record(FIRST)
    assert (record.status, record.error) == ("failed", "not finished at the run's deadline")
    assert math.isnan(record.ttft_ms)


@pytest.mark.parametrize("reached", ["transfer", "batch"])
def test_a_decode_instance_that_ends_takes_its_requests_with_it(reached: str) -> None:
    told = Told(FIRST, SECOND)
    number = told.up_to_selection(FIRST) if reached == "transfer" else told.into_the_batch(FIRST)
    chosen = told.orders.decisions[number].decode_id
    hit = told.life.lost("decode", chosen, "it was killed", 2.0)
    assert (hit.failed, hit.retried) == ([number], [])
    assert (told.record(FIRST).status, told.record(FIRST).error) == ("failed", "it was killed")
    assert told.waiting_and_running() == (0, 0)
    assert not told.life.done  # the other one has not arrived yet


def test_what_is_dead_is_not_chosen_until_it_runs_again() -> None:
    requests = [Request(number, float(number), 100, 5, (number,)) for number in range(20)]
    told = Told(*requests)
    _, roles = Scenario().build()
    for dead in roles.decode[1:]:
        told.life.lost("decode", dead, "gone", 0.0)
    chosen = [told.orders.decisions[told.up_to_selection(request)].decode_id for request in requests[:10]]
    assert set(chosen) == {roles.decode[0]}
    told.life.restored("decode", roles.decode[1])
    chosen = [told.orders.decisions[told.up_to_selection(request)].decode_id for request in requests[10:]]
    assert set(chosen) == set(roles.decode[:2])


def test_a_dead_instance_has_lost_its_prefixes() -> None:
    again = Request(2, 9.0, 1024, 5, (0, 1))
    first = Request(0, 1.0, 1024, 5, (0, 1))
    told = Told(first, again, policy="ca")
    held_by = told.orders.decisions[told.into_the_batch(first)].decode_id
    told.life.lost("decode", held_by, "gone", 2.0)
    told.life.restored("decode", held_by)
    assert told.orders.decisions[told.up_to_selection(again)].cached_tokens == 0


def test_with_retry_a_lost_request_is_selected_once_more_and_then_fails() -> None:
    told = Told(FIRST, serving={"retry": True})
    number = told.into_the_batch(FIRST)
    chosen = told.orders.decisions[number].decode_id
    hit = told.life.lost("decode", chosen, "it was killed", 2.0)
    assert (hit.failed, hit.retried) == ([], [number])
    other = told.orders.decisions[number].decode_id
    assert other != chosen
    assert told.orders.abandoned == [(number, chosen)]
    assert len(told.orders.prefills) == 1  # its KV is still where it was prefilled
    assert (told.record(FIRST).decode_id, told.waiting_and_running()) == (other, (1, 0))
    assert math.isnan(told.record(FIRST).kv_transfer_ms)
    hit = told.life.lost("decode", other, "this one, too", 3.0)
    assert (hit.failed, told.record(FIRST).error) == ([number], "this one, too")


def test_with_retry_a_request_whose_kv_is_lost_is_prefilled_anew() -> None:
    told = Told(FIRST, serving={"retry": True})
    number = told.up_to_selection(FIRST)
    ((_, source),) = told.orders.prefills
    assert told.life.lost("prefill", source, "it was killed", 2.0).retried == [number]
    assert [request_id for request_id, _ in told.orders.prefills] == [number, number]
    assert told.orders.prefills[1][1] != source
    assert told.waiting_and_running() == (0, 0)


def test_a_transfer_that_breaks_is_tried_once_more_where_the_scenario_says_so() -> None:
    told = Told(FIRST, serving={"retry": True})
    number = told.up_to_selection(FIRST)
    told.life.failed(number, "connection reset", 2.0)
    assert (told.orders.abandoned, told.record(FIRST).error) == ([(number, told.orders.abandoned[0][1])], "")
    told.life.failed(number, "connection reset again", 3.0)
    assert (told.record(FIRST).status, told.record(FIRST).error) == ("failed", "connection reset again")


def test_an_instance_at_which_a_request_has_failed_is_chosen_again_only_where_no_other_can_be() -> None:
    _, roles = Scenario().build()
    chosen = []
    told = Told(FIRST, policy="random", serving={"retry": {"attempts": 10}})
    number = told.up_to_selection(FIRST)
    for turn in range(len(roles.decode)):
        chosen.append(told.orders.decisions[number].decode_id)
        told.life.failed(number, "connection reset", 2.0 + turn)
    assert sorted(chosen) == sorted(roles.decode)
    assert told.life.records[number].error == ""  # a ninth attempt, at one that has failed before
    assert told.life.retries.retried == [number]


def test_a_request_of_which_nothing_is_heard_is_tried_elsewhere_and_then_fails() -> None:
    told = Told(FIRST, serving={"retry": {"attempts": 2, "timeout_s": 3.0}})
    number = told.up_to_selection(FIRST)  # selected at 1.5 s
    ((_, look_s),) = told.orders.wakes  # asked for when it arrived, and once at a time
    hung, source = told.orders.decisions[number].decode_id, told.record(FIRST).prefill_id
    told.life.overdue(number, look_s)
    assert told.orders.wakes[1:] == [(number, 4.5)]  # it was heard of in between
    assert told.orders.abandoned == []
    told.life.overdue(number, 4.5)
    assert told.orders.abandoned == [(number, hung)]
    assert told.orders.prefills[-1][1] != source  # who of the two is silent nobody knows
    told.life.prefill_started(number, 4.6)
    told.life.prefilled(number, 0.4, 5.0)
    assert told.orders.decisions[number].decode_id != hung
    told.life.received(number, 5.2)
    told.life.overdue(number, 8.1)
    assert told.life.done is False
    told.life.overdue(number, 8.2)
    assert (told.record(FIRST).status, told.record(FIRST).error) == ("failed", "nothing was heard of it in admission")
    assert (told.life.done, told.waiting_and_running()) == (True, (0, 0))


def test_a_prompt_that_hangs_in_prefill_is_prefilled_by_another() -> None:
    told = Told(FIRST, serving={"retry": {"attempts": 2, "timeout_s": 3.0}})
    told.life.arrive(FIRST)
    ((number, look_s),) = told.orders.wakes
    told.life.prefill_started(number, 1.1)
    told.life.overdue(number, look_s)
    ((_, first),) = told.orders.prefills
    told.life.overdue(number, told.orders.wakes[-1][1])
    assert told.orders.abandoned == [(number, None)]
    assert told.orders.prefills[-1] != (number, first)


def test_an_answer_takes_the_time_that_it_takes() -> None:
    long_answer = Request(0, 1.0, 1000, 400, (0, 1))
    told = Told(long_answer, serving={"retry": {"timeout_s": 1.0}})
    number = told.into_the_batch(long_answer)
    told.life.overdue(number, 1.9 + 400 * 0.03)
    assert not told.life.done
    told.life.overdue(number, 1e3)
    assert told.record(long_answer).error == "nothing was heard of it in decode"


def test_kv_that_has_arrived_outlives_its_sender() -> None:
    told = Told(SECOND)
    number = told.up_to_selection(SECOND)
    told.life.received(number, 2.3)
    source = told.record(SECOND).prefill_id
    assert told.life.lost("prefill", source, "it was killed", 2.35) == ([], [])
    told.life.admitted(number, 2.4)
    told.life.finished(number, 2.5, 2.5)
    record = told.record(SECOND)
    assert (record.status, told.life.done) == ("completed", True)
    assert record.error == "it was killed; it had not reported when it began to send"


def test_prefill_avoids_what_is_dead_and_fails_without_anybody() -> None:
    told = Told(FIRST, SECOND)
    _, roles = Scenario().build()
    for dead in roles.prefill[1:]:
        told.life.lost("prefill", dead, "gone", 0.0)
    told.life.arrive(FIRST)
    assert told.orders.prefills == [(FIRST.request_id, roles.prefill[0])]
    hit = told.life.lost("prefill", roles.prefill[0], "gone", 0.0)
    assert hit.failed == [FIRST.request_id]
    told.life.arrive(SECOND)
    assert told.record(SECOND).error == "no prefill instance is running"


ROOM_FOR_ONE = {"serving": {"kv_memory_tokens": 1100, "kv_admission": "before_transfer", "retry": False}}


def held_by_memory(*requests: Request, **changes: Any) -> Told:
    """The first has the memory of the only decode instance that lives; the others wait for it."""
    told = Told(*requests, **(ROOM_FOR_ONE | changes))
    _, roles = Scenario().build()
    for dead in roles.decode[1:]:
        told.life.lost("decode", dead, "gone", 0.0)
    for request in requests:
        told.up_to_selection(request)
    return told


def test_a_transfer_is_ordered_when_there_is_room_for_it() -> None:
    told = held_by_memory(FIRST, SECOND)
    assert list(told.orders.decisions) == [0]
    in_flight = told.life.dispatcher._in_flight
    assert (len(in_flight), told.waiting_and_running()) == (1, (2, 0))
    told.life.sending(0, 1.5)
    told.life.received(0, 1.8)
    told.life.admitted(0, 1.9)
    assert list(told.orders.decisions) == [0]  # it has arrived and runs: its memory is still its own
    told.life.finished(0, 2.0, 2.4)
    assert list(told.orders.decisions) == [0, 1]
    assert len(in_flight) == 1
    assert [told.life.decisions[number]["memory_wait_ms"] for number in (0, 1)] == pytest.approx([0, 400])


@pytest.mark.parametrize("leaves", [0, 1])
def test_who_fails_makes_room_whether_it_held_memory_or_waited(leaves: int) -> None:
    third = Request(2, 1.6, 700, 1, (0, 3))
    told = held_by_memory(FIRST, SECOND, third)
    told.life.failed(leaves, "the link is down", 3.0)
    assert list(told.orders.decisions) == ([0, 1] if leaves == 0 else [0])
    told.life.failed(1 - leaves, "and the other", 3.5)
    assert told.orders.decisions.keys() >= {2}
    assert told.waiting_and_running() == (1, 0)


@pytest.mark.parametrize("role", ["decode", "prefill"])
def test_nobody_is_sent_by_or_to_what_has_ended(role: str) -> None:
    told = held_by_memory(FIRST, SECOND)
    _, roles = Scenario().build()
    if role == "prefill":  # the sender of the one that waits
        told.life.lost("prefill", told.record(SECOND).prefill_id, "it was killed", 2.0)
        told.life.failed(0, "connection reset", 2.1)
    else:
        told.life.lost("decode", roles.decode[0], "it was killed", 2.0)
    assert list(told.orders.decisions) == [0]
    assert (told.life.done, told.waiting_and_running()) == (True, (0, 0))
    assert len(told.life.dispatcher._in_flight) == 0
