"""Faults in the analytic world: what a link, a worker or telemetry that fails does to the requests of small runs."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from scenario import DETECTION_S, CongestionSpec, FaultKind, OracleSpec, Scenario, WorkloadSpec
from scheduler import NetworkSample, View
from serving import Outcome
from simulator.faulty_transport import FaultyTransport
from simulator.network import FluidNetwork
from simulator.path_choice import PathChoice
from simulator.simulation import SimulationSpec
from simulator.transport import FluidTransport
from tests.support.analytic_runs import (
    LATENCY_S,
    PREFILL_S,
    STEP_S,
    TRANSFER_S,
    one_pair,
    play_on,
    prompt,
    run,
    small,
)
from tests.support.maxmin import max_min_rates

FABRIC, _ = Scenario().build()
NEAR, FAR = 0, 10
"""Two instances in different pods, with four paths between them."""


def faulty(**changes: Any) -> FaultyTransport:
    return FaultyTransport(FABRIC, PathChoice(0, "hashed"), **changes)


def cut_of(*cables: str) -> frozenset[int]:
    both = [(name, ">".join(reversed(name.split(">")))) for name in cables]
    return frozenset(FABRIC.link_by_name[name].index for pair in both for name in pair)


def used(transport: FluidTransport) -> set[str]:
    """The links that carry something now."""
    return {FABRIC.links[link].name for link in np.flatnonzero(transport.link_rate_Bps())}


def event(kind: FaultKind, target: str = "", at_s: float = 2.0, for_s: float | None = 3.0, **more: Any) -> Any:
    return {"at_s": at_s, "kind": kind, "target": target, "for_s": for_s, **more}


def with_pair(*faults: Any, **changes: Any) -> Outcome:
    """One prompt from h0 to h1, whose transfer lasts from 57 ms to 4.057 s when nothing breaks."""
    scenario = one_pair(faults=list(faults), **changes)
    fabric, _ = scenario.build()
    transport = FaultyTransport(fabric, PathChoice(0, "hashed"), start_s=-scenario.lead_s)
    return play_on(transport, scenario, [prompt(0, 0.0)])


# -- links --------------------------------------------------------------------------------------------------------


def test_without_faults_both_transports_say_the_same() -> None:
    plain, other = FluidTransport(FABRIC, PathChoice(0, "hashed")), faulty()
    for transport in (plain, other):
        for number, (source, target) in enumerate([(0, 10), (1, 11), (0, 6), (4, 2)]):
            transport.start_transfer(number, source, target, 1e9 * (number + 1), 4)
    assert np.array_equal(plain.link_rate_Bps(), other.link_rate_Bps())
    assert plain.advance(10.0) == other.advance(10.0)


def test_a_transfer_waits_for_its_only_link_and_goes_on_when_it_is_back() -> None:
    (row,) = with_pair(event("link_down", "srv0>tor0", for_s=3.0)).requests
    assert row.status == "completed"
    assert row.kv_transfer_ms == pytest.approx((TRANSFER_S + 3.0 + LATENCY_S) * 1e3)
    assert row.ttft_ms == pytest.approx((PREFILL_S + TRANSFER_S + 3.0 + LATENCY_S + STEP_S) * 1e3)


def test_a_degraded_link_gives_its_share_of_the_rate() -> None:
    outcome = with_pair(event("link_degraded", "tor0>srv0", at_s=1.0, for_s=2.0, share=0.25))
    assert outcome.requests[0].kv_transfer_ms == pytest.approx((TRANSFER_S + 0.75 * 2.0 + LATENCY_S) * 1e3)


def test_a_link_that_never_comes_back_fails_its_transfer_with_the_reason() -> None:
    outcome = with_pair(event("switch_down", "tor0", for_s=None))
    assert (outcome.requests[0].status, outcome.requests[0].error) == (
        "failed",
        "no path was left between its instances",
    )
    (fault,) = outcome.faults
    assert (fault["kind"], fault["target"], fault["at_s"], fault["request_ids"]) == ("switch_down", "tor0", 2.0, [0])
    assert np.isnan(fault["until_s"])


def test_connections_leave_a_failed_link_once_it_is_detected_and_return_when_it_is_back() -> None:
    transport = faulty()
    transport.start_transfer(1, NEAR, FAR, 1e12, 64)
    everywhere = used(transport)
    assert {"tor0>agg0", "tor0>agg1"} <= everywhere
    transport.set_links(cut_of("tor0>agg1"), {})
    transport.advance(DETECTION_S)
    assert transport.stalled_requests == [1]
    assert "tor0>agg1" not in used(transport)
    transport.reroute(cut_of("tor0>agg1"))
    assert transport.stalled_requests == []
    assert "tor0>agg1" not in used(transport)
    assert {"agg0>core0", "agg0>core1"} <= used(transport)
    transport.set_links(frozenset(), {})
    transport.reroute(frozenset())
    assert used(transport) == everywhere


def test_a_detour_stays_on_the_way_up_as_long_as_it_can() -> None:
    transport = faulty()
    transport.start_transfer(1, NEAR, FAR, 1e12, 64)
    before = transport.link_rate_Bps()
    transport.set_links(cut_of("agg0>core0"), {})
    transport.reroute(cut_of("agg0>core0"))
    after = transport.link_rate_Bps()
    other_group = FABRIC.link_by_name["agg1>core2"].index
    assert "agg0>core0" not in used(transport)
    assert after[other_group] >= before[other_group]
    per_group = {  # connections, by what the hash gave each aggregation before and after
        at: sum(part.connections for part in transport._present() if part.path // 2 == at) for at in (0, 1)
    }
    homes = {at: sum(part.connections for part in transport._present() if part.home // 2 == at) for at in (0, 1)}
    assert per_group == homes


def test_no_byte_is_lost_on_a_detour() -> None:
    transport = faulty()
    transport.start_transfer(1, NEAR, FAR, 5e10, 16)
    delivered: list[float] = []
    for number, cut in enumerate(itertools.islice(itertools.cycle([cut_of("agg0>core0"), frozenset()]), 6)):
        delivered += [one.at_s for one in transport.advance(0.1 * (number + 1))]
        transport.set_links(cut, {})
        transport.reroute(cut)
    while (next_s := transport.next_delivery_s()) < np.inf:
        delivered += [one.at_s for one in transport.advance(next_s)]
    assert len(delivered) == 1
    into = FABRIC.link_by_name["srv5>h10"].index
    assert transport.link_carried_B()[into] == pytest.approx(5e10, rel=1e-9)


def test_a_cancelled_transfer_frees_its_links() -> None:
    transport = faulty(persistent=True)
    transport.start_transfer(1, NEAR, FAR, 1e12, 4)
    transport.cancel(1)
    transport.cancel(1)
    assert (used(transport), transport.flows, transport.next_delivery_s()) == (set(), 0, np.inf)


def test_rates_after_a_change_of_capacity_are_max_min_fair() -> None:
    rng = np.random.default_rng(3)
    capacity = rng.uniform(5, 20, 12)
    network = FluidNetwork(capacity)
    paths = [rng.choice(12, size=rng.integers(1, 5), replace=False).tolist() for _ in range(30)]
    for path in paths:
        network.add(path)
    for step in range(40):
        link = int(rng.integers(12))
        capacity[link] = rng.uniform(0.5, 30)
        network.set_capacity(link, float(capacity[link]))
        network.advance(0.01 * (step + 1))
        assert network.rates_Bps() == pytest.approx(max_min_rates(capacity, paths), rel=1e-9)


@pytest.mark.parametrize(("link", "capacity_Bps"), [(0, 0.0), (0, np.inf), (0, np.nan), (5, 1.0)])
def test_a_capacity_that_makes_no_sense_is_refused(link: int, capacity_Bps: float) -> None:
    with pytest.raises(ValueError, match="link"):
        FluidNetwork([1.0, 2.0]).set_capacity(link, capacity_Bps)


def test_no_row_of_a_link_that_is_down_shows_traffic_and_everything_arrives() -> None:
    scenario = small(faults=[event("link_down", "tor0>agg1", at_s=3.0, for_s=9.0)])
    outcome = run(scenario, SimulationSpec(link_sample_s=0.5))
    seen = [row for row in outcome.links if row["link"] == "tor0>agg1" and 3.2 < row["time_s"] < 11.9]
    assert len(seen) > 10
    assert len({row["bytes"] for row in seen}) == 1
    assert {one.status for one in outcome.requests} == {"completed"}


def test_faults_after_the_last_request_change_nothing_and_have_no_row() -> None:
    late = small(faults=[event("link_down", "tor0>agg1", at_s=1e6)])
    plain, with_late = run(small()), run(late)
    assert with_late.faults == []
    assert [one.e2el_ms for one in with_late.requests] == pytest.approx([one.e2el_ms for one in plain.requests])


# -- workers ------------------------------------------------------------------------------------------------------


def busy(**changes: Any) -> Scenario:
    return small("round_robin", congestion=CongestionSpec(kind="none"), **changes)


def test_requests_of_a_killed_decode_worker_fail_with_the_reason_and_the_run_goes_on() -> None:
    outcome = run(busy(faults=[event("decode_worker_killed", "h2", at_s=5.0, for_s=4.0)]))
    (fault,) = outcome.faults
    failed = [one for one in outcome.requests if one.status == "failed"]
    assert [one.request_id for one in failed] == fault["failed_ids"] != []
    assert {one.error for one in failed} == {"the decode worker on h2 was killed"}
    assert {one.decode_id for one in failed} == {2}
    assert (fault["at_s"], fault["until_s"], fault["requests_failed"]) == (5.0, 9.0, len(failed))
    assert len(outcome.requests) == 80


def test_nobody_is_sent_to_a_dead_instance_until_it_is_back() -> None:
    outcome = run(busy(faults=[event("decode_worker_killed", "h2", at_s=5.0, for_s=4.0)]))
    to_it = [row["decided_s"] for row in outcome.decisions if row["decode_id"] == 2]
    assert [at_s for at_s in to_it if 5.0 < at_s < 9.0] == []
    assert [at_s for at_s in to_it if at_s > 9.0] != []


def test_with_retry_they_are_placed_once_more_and_complete() -> None:
    outcome = run(busy(serving={"retry": True}, faults=[event("decode_worker_killed", "h2", at_s=5.0, for_s=None)]))
    (fault,) = outcome.faults
    assert {one.status for one in outcome.requests} == {"completed"}
    assert (fault["requests_failed"], fault["requests_retried"]) == (0, len(fault["retried_ids"]))
    again = [one for one in outcome.requests if one.request_id in fault["retried_ids"]]
    assert again
    assert 2 not in {one.decode_id for one in again}
    decided_s = {row["request_id"]: row["decided_s"] for row in outcome.decisions}
    assert all(decided_s[one.request_id] >= 5.0 for one in again)
    assert len(decided_s) == len(outcome.decisions) == 80


def test_a_request_is_tried_once_more_and_not_twice() -> None:
    killed = [event("decode_worker_killed", f"h{number}", at_s=5.0 + 0.5 * number) for number in (2, 3, 6, 7)]
    outcome = run(busy(serving={"retry": True}, faults=killed))
    retried = [number for fault in outcome.faults for number in fault["retried_ids"]]
    failed = [number for fault in outcome.faults for number in fault["failed_ids"]]
    assert len(retried) == len(set(retried))
    assert set(failed) <= set(retried)


@pytest.mark.parametrize("retry", [False, True])
def test_a_prefill_worker_takes_its_prompts_and_its_kv_with_it(retry: bool) -> None:
    outcome = run(busy(serving={"retry": retry}, faults=[event("prefill_worker_killed", "h0", at_s=5.0, for_s=None)]))
    (fault,) = outcome.faults
    hit = [one for one in outcome.requests if one.request_id in fault["request_ids"]]
    assert hit
    if retry:
        assert {one.status for one in outcome.requests} == {"completed"}
        assert 0 not in {one.prefill_id for one in hit}
    else:
        assert {one.error for one in hit} == {"the prefill worker on h0 was killed"}


def test_without_any_instance_requests_are_turned_away_with_the_reason() -> None:
    outcome = with_pair(event("decode_worker_killed", "h1", at_s=0.01, for_s=None))
    assert (outcome.requests[0].status, outcome.requests[0].error) == ("rejected", "no decode instance is running")
    outcome = with_pair(event("prefill_worker_killed", "h0", at_s=0.0, for_s=None))
    assert (outcome.requests[0].status, outcome.requests[0].error) == ("failed", "no prefill instance is running")


# -- telemetry ----------------------------------------------------------------------------------------------------


def ages(scenario: Scenario, from_s: float, to_s: float) -> list[float]:
    """Age of the snapshot of each decision, in order, seconds."""
    rows = sorted(run(scenario).decisions, key=lambda row: row["decided_s"])
    return [row["oracle_age_ms"] / 1e3 for row in rows if from_s <= row["decided_s"] < to_s]


def test_frozen_telemetry_only_gets_older() -> None:
    frozen = small(faults=[event("telemetry_frozen", at_s=4.0, for_s=6.0)])
    during, after = ages(frozen, 5.1, 10.0), ages(frozen, 11.2, 1e3)
    assert during == sorted(during)
    assert during[-1] > 4.0
    assert max(ages(small(), 0.0, 1e3)) <= 1.1 + 1e-9
    assert max(after) <= 1.1 + 1e-9


def test_delayed_telemetry_is_older_by_the_delay() -> None:
    delayed = small(faults=[event("telemetry_delayed", at_s=0.0, for_s=None, delay_s=3.0)])
    assert 3.0 < min(ages(delayed, 6.0, 1e3)) <= max(ages(delayed, 6.0, 1e3)) <= 4.1 + 1e-9


def test_a_snapshot_that_is_too_old_is_not_used_and_decisions_say_so() -> None:
    limited = OracleSpec(most_age_s=2.0)
    frozen = small(oracle=limited, faults=[event("telemetry_frozen", at_s=4.0, for_s=6.0)])
    rows = run(frozen).decisions
    why = {row["fallback"] for row in rows if 6.1 < row["decided_s"] < 10.0}
    assert why == {"no telemetry: the snapshot is older than 2 s"}
    assert all(math.isinf(row["oracle_age_ms"]) for row in rows if 6.1 < row["decided_s"] < 10.0)
    assert max(row["oracle_age_ms"] for row in rows if row["decided_s"] < 4.5) <= 2000.0
    assert {row["fallback"] for row in rows if row["decided_s"] > 11.2} == {""}


def test_corrupted_telemetry_is_refused_and_decisions_say_so() -> None:
    rows = run(small(faults=[event("telemetry_corrupted", at_s=4.0, for_s=6.0)])).decisions
    why = {row["fallback"] for row in rows if 5.1 <= row["decided_s"] < 10.0}
    assert why == {"no telemetry: the document is corrupted"}
    assert {row["fallback"] for row in rows if row["decided_s"] < 4.0 or row["decided_s"] > 11.2} == {""}


# -- background traffic -------------------------------------------------------------------------------------------


def test_a_surge_slows_transfers_to_its_instance_while_it_lasts() -> None:
    def transfer_ms(*faults: dict[str, Any]) -> tuple[float, list[int], list[dict[str, Any]]]:
        outcome = run(small(policy="round_robin", congestion=CongestionSpec(kind="none"), faults=list(faults)))
        there = [one for one in outcome.requests if one.decode_id == 6]
        return sum(one.kv_transfer_ms for one in there), [one.request_id for one in there], outcome.faults

    quiet_ms, there, _ = transfer_ms()
    surged_ms, _, (row,) = transfer_ms(event("background_surge", "h6", at_s=0.0, for_s=None))
    assert surged_ms > 3 * quiet_ms
    assert row["request_ids"] == there
    assert transfer_ms(event("background_surge", "h6", at_s=1e6))[0] == quiet_ms


def test_a_link_that_is_down_counts_as_full(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = small(
        workload=WorkloadSpec(requests=20),
        oracle=OracleSpec(source="exact"),
        congestion=CongestionSpec(kind="none"),
        faults=[event("link_down", "tor0>agg1", at_s=0.5, for_s=None)],
    )
    seen: list[float] = []
    adopt = View.adopt

    def noted(self: View, sample: NetworkSample) -> None:
        if sample.sampled_s > 0.6:
            seen.append(float(sample.utilisation[FABRIC.link_by_name["tor0>agg1"].index]))
        adopt(self, sample)

    monkeypatch.setattr(View, "adopt", noted)
    run(scenario)
    assert set(seen) == {1.0}
