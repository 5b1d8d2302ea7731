"""The theorems of docs/explanation/theory.md, held against the policies, the fluid network and random errors."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from experiments.analysis.theory import (
    available,
    herd_ratio,
    largest_error,
    largest_error_of_cost,
    longest_staleness_s,
    single_ratio,
    tokens_beyond,
)
from scheduler import NetworkSample, find_policy
from simulator.fluid import simulate_flows
from tests.support.one_decision import FABRIC, KAPPA, ROLES, TABLE, candidates, view
from workloads import Request

NIC_BPS = 25e9
BLOCK = 512

# -- C1 --------------------------------------------------------------------------------------------------------------


@given(
    ratio=st.floats(1.01, 100),
    spare=st.floats(1.05, 20),
    cached=st.integers(1, 5000),
    fixed_s=st.floats(0, 0.5),
)
def test_the_ratio_exceeds_any_number_beyond_a_known_context(
    ratio: float, spare: float, cached: int, fixed_s: float
) -> None:
    holder_Bps = NIC_BPS / (ratio * spare)
    beyond = tokens_beyond(ratio, cached, KAPPA, holder_Bps, NIC_BPS, fixed_s)

    def found(n: float) -> float:
        return single_ratio(n, cached, KAPPA, holder_Bps, NIC_BPS, fixed_s)

    assert found(beyond * 1.001 + 1) > ratio
    assert found(max(beyond * 0.999 - 1, cached)) < ratio * (1 + 1e-9)
    grows = [found(n) for n in np.geomspace(max(beyond, cached), 1e9, 20)]
    assert grows == sorted(grows)
    assert found(1e15) == pytest.approx(NIC_BPS / holder_Bps, rel=1e-3)  # the limit


def test_on_a_given_fabric_one_decision_is_bounded_by_the_bandwidths() -> None:
    assert tokens_beyond(4.0, BLOCK, KAPPA, NIC_BPS / 4, NIC_BPS, 0.03) == math.inf


@pytest.mark.parametrize("foreign", [1, 7, 31])
def test_the_policies_make_these_choices_and_the_fluid_network_confirms_the_ratio(foreign: int) -> None:
    """Instance 10, far away, holds one block and `foreign` flows run into its server; instance 2 is near and idle."""
    tokens = 1_000_000
    request = Request(0, 0.0, tokens, 10, tuple(range(tokens // BLOCK + 1)))
    seen = candidates(cached_tokens={10: BLOCK})
    network = view(busy=("tor2>srv5",))
    assert find_policy("ca")().select(request, seen, network) == 10
    assert find_policy("netkv_full")().select(request, seen, network) == 2
    link = [FABRIC.link_index["tor2", "srv5"], FABRIC.link_index["tor0", "srv1"]]
    capacity_Bps = np.full(len(FABRIC.links), NIC_BPS)
    kv_B = [KAPPA * (tokens - BLOCK), KAPPA * tokens, *[1e18] * foreign]
    paths = [np.array([link[0]]), np.array([link[1]]), *[np.array([link[0]])] * foreign]
    finish_s = simulate_flows(capacity_Bps, np.zeros(len(kv_B)), np.array(kv_B), paths)
    expected = single_ratio(tokens, BLOCK, KAPPA, NIC_BPS / (1 + foreign), NIC_BPS, 0.0)
    assert finish_s[0] / finish_s[1] == pytest.approx(expected, rel=1e-6)
    assert expected > 0.99 * (1 + foreign)


@given(requests=st.integers(1, 12), tokens=st.integers(1024, 400_000), gap_s=st.floats(0, 1))
def test_herding_on_the_holder_costs_what_the_closed_form_says(requests: int, tokens: int, gap_s: float) -> None:
    start_s = gap_s * np.arange(requests)
    size_B = np.full(requests, KAPPA * (tokens - BLOCK))
    finish_s = simulate_flows(np.array([NIC_BPS]), start_s, size_B, [np.array([0])] * requests)
    herded_s = finish_s[-1] - start_s[-1]
    alone_s = KAPPA * tokens / NIC_BPS
    expected = herd_ratio(requests, tokens, BLOCK, KAPPA, NIC_BPS, gap_s)
    assert herded_s / alone_s == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("wanted", [2, 10, 100])
def test_herding_exceeds_any_number_as_the_context_grows(wanted: int) -> None:
    ratios = [herd_ratio(2 * wanted, n, BLOCK, KAPPA, NIC_BPS, 0.1) for n in (10**4, 10**6, 10**8)]
    assert ratios == sorted(ratios)
    assert ratios[-1] > wanted


# -- C3 --------------------------------------------------------------------------------------------------------------

CAPACITY = st.lists(st.floats(1e9, 5e11), min_size=2, max_size=4)


@st.composite
def tiers(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    capacity = draw(CAPACITY)
    return capacity, [draw(st.floats(0.0, 0.95)) for _ in capacity]


def order(left: list[float]) -> list[int]:
    return sorted(range(len(left)), key=lambda tier: -left[tier])


@given(tiers=tiers(), data=st.data())
def test_below_the_bound_no_error_changes_the_order(
    tiers: tuple[list[float], list[float]], data: st.DataObject
) -> None:
    capacity, utilisation = tiers
    error = largest_error(capacity, utilisation)
    assume(error > 1e-9)
    stale = [u + data.draw(st.floats(-1, 1)) * error * (1 - 1e-6) for u in utilisation]
    assert order(available(capacity, stale)) == order(available(capacity, utilisation))


@given(tiers=tiers())
def test_just_beyond_the_bound_some_error_does(tiers: tuple[list[float], list[float]]) -> None:
    capacity, utilisation = tiers
    error = largest_error(capacity, utilisation) * (1 + 1e-6) + 1e-12
    true = order(available(capacity, utilisation))
    changed = False
    for better, worse in pairwise(true):
        stale = list(utilisation)
        stale[better] += error
        stale[worse] -= error
        changed |= order(available(capacity, stale)) != true
    assert changed


@given(tiers=tiers())
def test_adjacent_tiers_decide(tiers: tuple[list[float], list[float]]) -> None:
    """(a + b) / (c + d) is never below the smaller of its parts: no pair further apart is closer to a swap."""
    capacity, utilisation = tiers
    left = available(capacity, utilisation)
    pairs = [
        (left[i] - left[j]) / (capacity[i] + capacity[j])
        for i in range(len(left))
        for j in range(len(left))
        if i != j and left[i] >= left[j]
    ]
    assert min(pairs) >= largest_error(capacity, utilisation) * (1 - 1e-9)


@given(
    utilisation=st.lists(st.floats(0.0, 0.9), min_size=4, max_size=4),
    kv_bytes=st.floats(1e6, 1e11),
    data=st.data(),
)
def test_with_latency_the_order_by_cost_holds_below_its_bound(
    utilisation: list[float], kv_bytes: float, data: st.DataObject
) -> None:
    capacity, latency_s = TABLE.tier_Bps.tolist(), TABLE.tier_latency_s.tolist()

    def by_cost(seen: list[float]) -> list[int]:
        left = available(capacity, seen)
        cost = [
            latency + (kv_bytes / rest if rest > 0 else math.inf) for latency, rest in zip(latency_s, left, strict=True)
        ]
        return sorted(range(4), key=lambda tier: cost[tier])

    error = largest_error_of_cost(kv_bytes, capacity, utilisation, latency_s)
    assume(error > 1e-6)
    stale = [u + data.draw(st.floats(-1, 1)) * error * (1 - 1e-6) for u in utilisation]
    assert by_cost(stale) == by_cost(utilisation)


def choice(into_server_1: float, into_server_3: float) -> int:
    """What NetKV-Full takes of instance 2 (tier 1, server 1) and instance 6 (tier 2, server 3)."""
    utilisation = np.zeros(len(FABRIC.links))
    utilisation[FABRIC.link_index["tor0", "srv1"]] = into_server_1
    utilisation[FABRIC.link_index["tor1", "srv3"]] = into_server_3
    network = view()
    network.adopt(NetworkSample(0.0, utilisation))
    seen = candidates(feasible=dict.fromkeys(ROLES.decode, False) | {2: True, 6: True})
    return find_policy("netkv_full")().select(Request(0, 0.0, 100_000, 10, (0,)), seen, network)


def test_the_policy_changes_its_mind_just_beyond_the_bound_and_not_before() -> None:
    """12.5 of 25 GB/s are left to one, 10 of 25 to the other: eps* = 2.5 / 50."""
    assert largest_error([25e9, 25e9], [0.5, 0.6]) == pytest.approx(0.05)
    assert choice(0.5, 0.6) == 2
    assert choice(0.5 + 0.0499, 0.6 - 0.0499) == 2
    assert choice(0.5 + 0.0501, 0.6 - 0.0501) == 6


@given(levels=st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_where_a_tier_is_as_busy_as_its_busiest_level_no_error_changes_the_order(levels: list[float]) -> None:
    """The tier-level view: a path of tier t crosses levels 0 to t, so what is left never grows with the distance."""
    used_Bps = TABLE.capacity_Bps * np.array(levels)[[level_of(link.index) for link in FABRIC.links]]
    left = available(TABLE.tier_Bps.tolist(), TABLE.tier_utilisation(used_Bps).tolist())
    assert all(near >= far * (1 - 1e-9) for near, far in pairwise(left))


def level_of(link: int) -> int:
    ends = FABRIC.links[link].source[:3], FABRIC.links[link].target[:3]
    return 3 if "cor" in ends else 2 if "agg" in ends else 1 if "tor" in ends else 0


def test_the_age_at_which_the_order_may_change_and_a_counterexample_just_beyond_it() -> None:
    capacity, at_first, rate_per_s = [25e9, 12.5e9], [0.5, 0.2], 0.02
    longest_s = longest_staleness_s(largest_error(capacity, at_first), rate_per_s)
    assert longest_s == pytest.approx((12.5 - 10) / 37.5 / 0.02)  # 3.33 s

    def after(age_s: float) -> list[int]:
        now = [at_first[0] + rate_per_s * age_s, at_first[1] - rate_per_s * age_s]
        return order(available(capacity, now))

    assert after(0.999 * longest_s) == order(available(capacity, at_first))
    assert after(1.001 * longest_s) != order(available(capacity, at_first))
    assert longest_staleness_s(0.1, 0.0) == math.inf
