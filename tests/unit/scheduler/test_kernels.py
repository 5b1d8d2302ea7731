"""The compiled loops of a decision against their definitions, on fabrics and states drawn at random."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from scenario import ModelSpec, ServingSpec, path_shares
from scheduler import Candidates, NetworkSample, View
from scheduler.candidates import TIE
from scheduler.in_flight import InFlight
from scheduler.kernels import best_indices
from scheduler.link_table import LinkTable
from scheduler.loads import TYPICAL_OUTPUT_TOKENS, DecodeLoads
from scheduler.prefix_index import PrefixIndex
from scheduler.view import BACKGROUND_COMPETITORS
from tests.support.path_bandwidth import bottleneck_Bps
from topologies import FabricSpec, build_fattree, place
from workloads import Request

FABRICS = [
    FabricSpec(),
    FabricSpec(pods=3, racks_per_pod=1),
    FabricSpec(pods=1, racks_per_pod=3, servers_per_rack=2),
    FabricSpec(pods=2, aggregations_per_pod=3, cores_per_group=2, tor_oversubscription=4),
    FabricSpec(pods=4, aggregations_per_pod=1, cores_per_group=3, aggregation_oversubscription=2),
]


@given(
    spec=st.sampled_from(FABRICS),
    placement=st.sampled_from(["segregated", "colocated"]),
    seed=st.integers(0, 2**32 - 1),
    stripes=st.integers(1, 8),
    transfers=st.integers(0, 12),
)
def test_the_bandwidth_left_is_what_its_definition_says(
    spec: FabricSpec, placement: str, seed: int, stripes: int, transfers: int
) -> None:
    fabric = build_fattree(spec)
    roles = place(fabric, placement)
    table, rng = LinkTable(fabric, roles), np.random.default_rng(seed)
    in_flight = InFlight(table)
    for request_id in range(transfers):
        source, target = int(rng.choice(roles.prefill)), int(rng.choice(roles.decode))
        if source != target:
            in_flight.start(request_id, source, target, rng.uniform(0, 25e9), now_s=0.0)
    network = View(table, in_flight, kv_bytes_per_token=1, stripes=stripes, transfer_full=False, rng=rng)
    utilisation = rng.uniform(0, 1, len(fabric.links)) * rng.integers(0, 2, len(fabric.links))
    network.adopt(NetworkSample(-1.0, utilisation))  # before our own transfers: all of it is others'
    capacity, sharing = table.capacity_Bps, 1 + in_flight.count
    left_Bps = np.maximum(capacity * (1 - utilisation) / sharing, capacity / (sharing + BACKGROUND_COMPETITORS))
    for prefill_id in roles.prefill:
        expected = [bottleneck_Bps(fabric, left_Bps, prefill_id, decode_id, stripes) for decode_id in roles.decode]
        assert network.available_Bps(idle(prefill_id, table)) == pytest.approx(expected, rel=1e-9)


@given(spec=st.sampled_from(FABRICS), data=st.data(), amount=st.floats(0, 1e11))
def test_a_transfer_is_booked_by_its_shares_and_leaves_again(
    spec: FabricSpec, data: st.DataObject, amount: float
) -> None:
    fabric = build_fattree(spec)
    roles = place(fabric, "segregated")
    table = LinkTable(fabric, roles)
    source, target = data.draw(st.sampled_from(roles.prefill)), data.draw(st.sampled_from(roles.decode))
    booked = np.zeros(len(fabric.links))
    table.book(booked, amount, source, target)
    assert booked == pytest.approx(amount * path_shares(fabric, source, target))
    table.book(booked, -amount, source, target)
    assert not booked.any()


def idle(prefill_id: int, table: LinkTable) -> Candidates:
    count = len(table.decode_id)
    nothing, none = np.zeros(count, dtype=np.int64), np.zeros(count)
    return Candidates(
        prefill_id=prefill_id,
        decode_id=table.decode_id,
        tier=table.tier[prefill_id],
        cached_tokens=nothing,
        waiting=nothing,
        running=nothing,
        reserved_tokens=nothing,
        kv_use=none,
        outstanding=nothing,
        prompt_tokens=nothing,
        sent_since=nothing,
        admission_wait_s=none,
        first_step_s=none,
        feasible=np.ones(count, dtype=np.bool_),
        rng=np.random.default_rng(0),
    )


SMALL = st.integers(0, 3)
ROWS = st.lists(st.tuples(SMALL, st.booleans(), SMALL, SMALL), min_size=1, max_size=12)


def found_best(
    cost: NDArray[np.float64], feasible: NDArray[np.bool_], tier: NDArray[np.int64], load: NDArray[np.int64]
) -> list[int]:
    result = np.empty(len(cost), dtype=np.int64)
    return result[: best_indices(cost, feasible, tier, load, TIE, result)].tolist()


@given(rows=ROWS)
def test_the_best_are_all_of_least_cost_tier_and_load(rows: list[tuple[int, bool, int, int]]) -> None:
    cost, feasible, tier, load = (np.array(column) for column in zip(*rows, strict=True))
    able = [at for at in range(len(rows)) if feasible[at]]
    least = min(((cost[at], tier[at], load[at]) for at in able), default=None)
    expected = [at for at in able if (cost[at], tier[at], load[at]) == least]
    assert found_best(cost.astype(float), feasible, tier, load) == expected


def test_costs_within_a_nanosecond_tie_and_nan_is_never_best() -> None:
    zeros, yes = np.zeros(3, dtype=np.int64), np.ones(3, dtype=np.bool_)
    tier = np.array([2, 1, 0])
    assert found_best(np.array([1.0, 1.0 + 5e-10, 1.0 + 2e-9]), yes, tier, zeros) == [1]
    assert found_best(np.array([1.0, 1.0 + 5e-10, 1.0 + 2e-9]), yes, zeros, zeros) == [0, 1]
    assert found_best(np.array([np.nan, 3.0, np.nan]), yes, tier, zeros) == [1]
    assert found_best(np.full(3, np.nan), yes, tier, zeros) == []
    assert found_best(np.full(3, np.inf), yes, tier, zeros) == [2]


@given(
    state=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 64)), min_size=4, max_size=4),
    tokens=st.integers(1, 60_000),
    slots=st.integers(1, 64),
)
def test_the_wait_for_admission_is_what_its_definition_says(
    state: list[tuple[int, int]], tokens: int, slots: int
) -> None:
    loads = DecodeLoads(4, ServingSpec(batch_slots=slots), ModelSpec())
    number = 0
    for at, (waiting, running) in enumerate(state):
        for k in range(waiting + min(running, slots)):
            loads.dispatched(at, Request(number, 0.0, 500 * (k + 1), 100, ()))
            number += 1
            if k < min(running, slots):
                loads.admitted(at)
    loads.look(0.0)
    request = Request(number, 0.0, tokens, 200, ())
    outstanding = loads.waiting + loads.running
    by_slots = outstanding + 1 - slots
    by_memory = (loads.reserved_tokens - (ServingSpec().kv_memory_tokens - tokens - 343)) / np.maximum(
        loads.reserved_tokens / np.maximum(outstanding, 1), 1
    )
    must_leave = np.maximum(np.maximum(by_slots, by_memory), 0)
    wait_s = must_leave * TYPICAL_OUTPUT_TOKENS * loads.first_step_s / np.maximum(loads.running, 1)
    assert loads.admission_wait_s(request) == pytest.approx(wait_s, rel=1e-12)


@given(held=st.lists(st.integers(0, 6), min_size=1, max_size=130))
def test_prefixes_of_many_instances_are_found_as_of_few(held: list[int]) -> None:
    prompt = tuple(range(100, 105))
    index = PrefixIndex(len(held), 50)
    for instance, blocks in enumerate(held):
        index.insert(instance, (*prompt, 7)[:blocks])
    assert index.matched_blocks(prompt).tolist() == [min(blocks, len(prompt)) for blocks in held]
