"""What a request goes through in the analytic world, by hand and to the exact second."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from scenario import BackgroundFlow, CongestionSpec, OracleSpec, Scenario, ServingSpec
from simulator.errors import SimulationError
from simulator.event_queue import EventQueue, Kind
from simulator.path_choice import TRANSFER, PathChoice
from simulator.simulation import SimulationSpec
from simulator.transport import Delivery, FluidTransport
from tests.support.analytic_runs import LATENCY_S, PREFILL_S, STEP_S, TRANSFER_S, one_pair, play, play_on, prompt, run

CLOSED_FORM = SimulationSpec(network="closed_form")

KILLED = {"events": [{"at_s": 1.0, "kind": "decode_worker_killed", "target": "h4"}]}


def approximately(milliseconds: Sequence[float]) -> object:
    return pytest.approx(milliseconds, rel=1e-12, abs=1e-9)


def test_a_lone_request_is_the_sum_of_its_parts() -> None:
    (record,) = play(one_pair(), [prompt(0, 2.0)]).requests
    assert (record.status, record.prefill_id, record.decode_id, record.tier) == ("completed", 0, 1, 1)
    assert record.kv_bytes == 512e6
    assert (record.queue_ms, record.admission_ms) == (0, 0)
    parts_s = (PREFILL_S, TRANSFER_S + LATENCY_S, PREFILL_S + TRANSFER_S + LATENCY_S + STEP_S)
    assert [record.prefill_ms, record.kv_transfer_ms, record.ttft_ms] == approximately([s * 1e3 for s in parts_s])
    assert [record.tpot_ms, record.e2el_ms - record.ttft_ms] == approximately([STEP_S * 1e3, 2 * STEP_S * 1e3])
    assert record.predicted_kv_transfer_ms == pytest.approx(record.kv_transfer_ms)


def test_a_prefill_instance_serves_one_request_at_a_time() -> None:
    first, second = play(one_pair(), [prompt(0, 0.0), prompt(1, 0.0)]).requests
    assert [first.queue_ms, second.queue_ms] == approximately([0, PREFILL_S * 1e3])


def test_a_prefill_instance_that_starts_at_once_queues_nobody() -> None:
    at_once = one_pair(serving=ServingSpec(prefill="at_once"))
    records = play(at_once, [prompt(0, 0.0), prompt(1, 0.0), prompt(2, PREFILL_S / 2)]).requests
    assert [record.queue_ms for record in records] == [0, 0, 0]
    assert [record.prefill_ms for record in records] == approximately([PREFILL_S * 1e3] * 3)


def test_two_transfers_share_the_nic_evenly() -> None:
    first, second = play(one_pair(), [prompt(0, 0.0), prompt(1, 0.0)]).requests
    overlap_s = TRANSFER_S - PREFILL_S  # left of the first when the second starts; then both run at half the rate
    assert first.kv_transfer_ms == pytest.approx((PREFILL_S + 2 * overlap_s + LATENCY_S) * 1e3)
    assert second.kv_transfer_ms == pytest.approx((2 * overlap_s + PREFILL_S + LATENCY_S) * 1e3)


@pytest.mark.parametrize("simulation", [SimulationSpec(), CLOSED_FORM], ids=["fluid", "closed_form"])
def test_background_takes_its_share_by_connections(simulation: SimulationSpec) -> None:
    load = BackgroundFlow(0, 0.0, 100.0, source=0, target=1, connections=12)
    (record,) = play(one_pair(), [prompt(0, 0.0)], [load], simulation).requests
    assert record.kv_transfer_ms == pytest.approx((4 * TRANSFER_S + LATENCY_S) * 1e3)  # four stripes of sixteen


def test_the_closed_form_keeps_the_share_of_the_start() -> None:
    leaving = BackgroundFlow(0, 0.0, 1.0, source=0, target=1, connections=4)
    (fluid,) = play(one_pair(), [prompt(0, 0.0)], [leaving]).requests
    (closed,) = play(one_pair(), [prompt(0, 0.0)], [leaving], CLOSED_FORM).requests
    assert closed.kv_transfer_ms == pytest.approx((2 * TRANSFER_S + LATENCY_S) * 1e3)
    shared_s = 1.0 - PREFILL_S
    assert fluid.kv_transfer_ms == pytest.approx((shared_s + TRANSFER_S - shared_s / 2 + LATENCY_S) * 1e3)


def test_a_cached_prompt_moves_nothing_until_it_is_evicted() -> None:
    one_block = one_pair(serving=ServingSpec(prefix_cache_tokens=512))
    again = [prompt(0, 0.0, block=7), prompt(1, 10.0, block=7), prompt(2, 20.0, block=8), prompt(3, 30.0, block=7)]
    records = play(one_block, again).requests
    assert [record.cached_tokens for record in records] == [0, 512, 0, 0]
    assert [record.kv_bytes for record in records] == [512e6, 0, 512e6, 512e6]
    assert records[1].kv_transfer_ms == 0


def test_a_slot_binds() -> None:
    one_slot = one_pair(serving=ServingSpec(batch_slots=1))
    first, second = play(one_slot, [prompt(0, 0.0, output_tokens=40), prompt(1, 0.0)]).requests
    received_s = PREFILL_S * 2 + second.kv_transfer_ms / 1e3
    assert first.admission_ms == 0
    assert second.admission_ms == pytest.approx(first.e2el_ms - received_s * 1e3)


def test_memory_binds_before_slots() -> None:
    serving = ServingSpec(kv_memory_tokens=1100, prefix_cache_tokens=0, kv_admission="after_transfer")
    two_prompts = one_pair(serving=serving)
    first, second, third = play(two_prompts, [prompt(number, 0.0, output_tokens=30) for number in range(3)]).requests
    assert first.admission_ms == 0
    assert second.admission_ms < STEP_S * 1e3  # until the step under way has ended
    assert third.admission_ms > 20 * STEP_S * 1e3  # until the first has left


def test_a_transfer_waits_for_room_where_memory_comes_first() -> None:
    serving = ServingSpec(kv_memory_tokens=1100, prefix_cache_tokens=0, kv_admission="before_transfer")
    outcome = play(one_pair(serving=serving), [prompt(number, 0.0, output_tokens=30) for number in range(3)])
    first, second, third = outcome.requests
    last_of_first_s = first.e2el_ms / 1e3
    waits_ms = [row["memory_wait_ms"] for row in outcome.decisions]
    assert waits_ms == approximately([0, 0, (last_of_first_s - 3 * PREFILL_S) * 1e3])
    assert outcome.decisions[2]["transfer_started_s"] == pytest.approx(last_of_first_s)
    assert third.kv_transfer_ms == pytest.approx((TRANSFER_S + LATENCY_S) * 1e3)  # alone on the network by then
    assert third.predicted_kv_transfer_ms > third.kv_transfer_ms  # two were on it when it was decided
    assert max(second.admission_ms, third.admission_ms) <= STEP_S * 1e3  # room is there: only a step is waited for


def test_where_memory_is_ample_it_does_not_matter_when_it_is_taken() -> None:
    asked = [prompt(number, 0.3 * number, output_tokens=30) for number in range(6)]
    before, after = (
        play(one_pair(serving=ServingSpec(kv_admission=when)), asked).requests
        for when in ("before_transfer", "after_transfer")
    )
    assert list(map(repr, before)) == list(map(repr, after))  # NaN is not itself


@pytest.mark.parametrize("simulation", [SimulationSpec(), CLOSED_FORM], ids=["fluid", "closed_form"])
@pytest.mark.parametrize("nic_times", [1, 400], ids=["the_network_binds", "the_prefill_binds"])
def test_part_of_a_transfer_leaves_during_its_prefill(nic_times: int, simulation: SimulationSpec) -> None:
    pair = one_pair(serving=ServingSpec(overlap=0.75))
    wide = replace(pair.fabric, nic_rate_bps=nic_times * pair.fabric.nic_rate_bps)
    outcome = play(pair.model_copy(update={"fabric": wide}), [prompt(0, 2.0)], simulation=simulation)
    (record,) = outcome.requests
    sending_s = TRANSFER_S / nic_times
    moving_s = max(PREFILL_S + 0.25 * sending_s, sending_s)
    times = [record.prefill_ms, record.kv_transfer_ms, record.ttft_ms]
    assert times == pytest.approx(
        [1e3 * PREFILL_S, 1e3 * (moving_s + LATENCY_S), 1e3 * (moving_s + LATENCY_S + STEP_S)]
    )
    assert record.predicted_kv_transfer_ms == pytest.approx(record.kv_transfer_ms)
    assert outcome.decisions[0]["transfer_started_s"] == outcome.decisions[0]["decided_s"] == 2.0
    assert outcome.evidence["kv_bytes"] == 512e6


def test_with_an_overlap_what_moves_nothing_still_waits_for_its_prefill() -> None:
    again = [prompt(0, 0.0, block=7), prompt(1, 10.0, block=7)]
    cached = play(one_pair(serving=ServingSpec(overlap=0.5)), again).requests[1]
    assert (cached.kv_bytes, cached.kv_transfer_ms) == (0, 0)
    assert cached.ttft_ms == pytest.approx((PREFILL_S + STEP_S) * 1e3)


def test_with_an_overlap_a_request_that_is_rejected_is_prefilled_all_the_same() -> None:
    small = one_pair(serving=ServingSpec(kv_memory_tokens=514, prefix_cache_tokens=0, overlap=0.5))
    never, fits = play(small, [prompt(0, 0.0, output_tokens=3), prompt(1, 0.0, output_tokens=2)]).requests
    assert (never.status, fits.status) == ("rejected", "completed")
    assert fits.queue_ms == pytest.approx(PREFILL_S * 1e3)


def test_no_byte_of_an_overlapped_transfer_is_lost() -> None:
    scenario = Scenario(policy="netkv_full", workload={"requests": 60}, serving={"overlap": 0.9, "transfer": "full"})
    quiet = scenario.model_copy(update={"congestion": CongestionSpec(kind="none")})
    outcome = run(quiet)
    carried = {row["link"]: row["bytes"] for row in outcome.links}
    into_decode = sum(sent for link, sent in carried.items() if link.startswith("srv") and ">h" in link)
    assert into_decode == pytest.approx(outcome.evidence["kv_bytes"], rel=1e-9)


@pytest.mark.parametrize(
    "changes", [{"serving": {"overlap": 0.5, "retry": True}}, {"serving": {"overlap": 0.5}, "faults": KILLED}]
)
def test_an_overlap_has_no_second_attempts(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"serving\.overlap: a transfer that begins during its prefill"):
        Scenario(**changes)


def test_what_can_never_fit_is_rejected_with_the_reason() -> None:
    small = one_pair(serving=ServingSpec(kv_memory_tokens=514, prefix_cache_tokens=0))
    fits, never = play(small, [prompt(0, 0.0, output_tokens=2), prompt(1, 0.0, output_tokens=3)]).requests
    assert (fits.status, never.status) == ("completed", "rejected")
    assert "needs 515 tokens of KV memory, an instance has 514" in never.error
    assert math.isnan(never.ttft_ms)


def test_events_of_one_instant_have_an_order() -> None:
    events = EventQueue()
    for kind in reversed(Kind):
        events.book(1.0, kind, 0)
        events.book(1.0, kind, 1)
    taken = [events.take() for _ in range(2 * len(Kind))]
    assert taken == [(1.0, kind, subject) for kind in Kind for subject in (0, 1)]


def test_who_leaves_at_an_instant_makes_room_for_who_comes_at_it() -> None:
    """With one slot and a transfer that ends just as the last token is out, nobody waits a step."""
    one_slot = one_pair(serving=ServingSpec(batch_slots=1))
    first = prompt(0, 0.0, output_tokens=12)
    lone = play(one_slot, [first]).requests[0]
    second = prompt(1, lone.e2el_ms / 1e3 - PREFILL_S - TRANSFER_S - LATENCY_S)
    records = play(one_slot, [first, second]).requests
    assert records[1].admission_ms == pytest.approx(0, abs=1e-6)
    assert records[1].ttft_ms == pytest.approx((PREFILL_S + TRANSFER_S + LATENCY_S + STEP_S) * 1e3)


def test_a_hash_spreads_at_random_and_an_ideal_evenly() -> None:
    hashed, ideal = PathChoice(1, "hashed"), PathChoice(1, "ideal")
    assert [ideal.deal(TRANSFER, number, 4, 4) for number in range(50)] == [[(0, 1), (1, 1), (2, 1), (3, 1)]] * 50
    assert [count for _, count in ideal.deal(TRANSFER, 3, 6, 4)] in (
        [1, 1, 2, 2],
        [1, 2, 2, 1],
        [2, 2, 1, 1],
        [2, 1, 1, 2],
    )
    used = np.zeros(4)
    for number in range(4000):
        for path, count in hashed.deal(TRANSFER, number, 4, 4):
            used[path] += count
    assert used.sum() == 16_000
    assert np.abs(used - 4000).max() < 5 * math.sqrt(16_000 * 0.25 * 0.75)
    assert PathChoice(2, "hashed").deal(TRANSFER, 5, 64, 4) != hashed.deal(TRANSFER, 5, 64, 4)


def test_colliding_stripes_are_slower_than_spread_ones() -> None:
    across = Scenario(policy="random", congestion={"kind": "none"}, oracle=OracleSpec(source="static"))
    lone = [prompt(number, 100.0 * number) for number in range(40)]
    hashed = play(across, lone).requests
    ideal = play(across, lone, simulation=SimulationSpec(spreading="ideal")).requests
    slower = [h.kv_transfer_ms / i.kv_transfer_ms for h, i in zip(hashed, ideal, strict=True) if h.tier == 3]
    assert min(slower) == pytest.approx(1)
    assert max(slower) > 1.4


class Stuck(FluidTransport):
    """A network on which nothing ever arrives."""

    def next_delivery_s(self) -> float:
        return math.inf

    def advance(self, to_s: float) -> list[Delivery]:
        return []


def test_a_run_without_progress_ends_and_names_its_state() -> None:
    scenario = one_pair(oracle=OracleSpec(refresh_s=0.1))
    fabric, _ = scenario.build()
    with pytest.raises(SimulationError, match=r"no progress: 2 of 2 requests open at .* 2 in transfer"):
        play_on(Stuck(fabric, PathChoice(0, "hashed")), scenario, [prompt(0, 0.0), prompt(1, 0.0)])


def test_a_refresh_without_end_is_refused() -> None:
    with pytest.raises(SimulationError, match="a refresh every 1e-06 s"):
        play(one_pair(oracle=OracleSpec(refresh_s=1e-6)), [prompt(0, 0.0), prompt(1, 3600.0)])


def test_no_requests_are_an_empty_outcome() -> None:
    outcome = play(one_pair(), [])
    assert (outcome.requests, outcome.duration_s) == ([], 0.0)
