"""The theorems of docs/explanation/theory.md, held against the policies, the fluid network and random errors."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from experiments.analysis.theory import (
    available,
    herd_ratio,
    largest_error,
    largest_error_of_cost,
    longest_staleness_s,
    order_is_certain,
    single_ratio,
    tokens_beyond,
)
from scheduler import NetworkSample, View, find_policy
from scheduler.in_flight import InFlight
from scheduler.view import BACKGROUND_COMPETITORS
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


def farthest(capacity: float, utilisation: float, floor: float, error: float) -> tuple[float, float]:
    """The least and the most that a tier may seem to have left: at the ends, for it falls with the utilisation."""
    seen = [min(max(utilisation + sign * error, 0.0), 1.0) for sign in (1, -1)]
    least, most = (max(capacity * (1 - u), floor) for u in seen)
    return least, most


def can_change(capacity: list[float], utilisation: list[float], floor: list[float], error: float) -> bool:
    """By brute force: whether some pair of tiers may seem to be in the other order, or equal."""
    left = [max(rest, least) for rest, least in zip(available(capacity, utilisation), floor, strict=True)]
    ends = [farthest(*tier, error) for tier in zip(capacity, utilisation, floor, strict=True)]
    pairs = [(i, j) for i in range(len(left)) for j in range(len(left)) if left[i] > left[j]]
    return any(ends[i][0] <= ends[j][1] for i, j in pairs)


@given(tiers=tiers(), own=st.integers(0, 3), competitors=st.sampled_from([2.0, 0.5, math.inf]))
def test_below_the_bound_no_error_changes_the_order_and_just_beyond_it_one_does(
    tiers: tuple[list[float], list[float]], own: int, competitors: float
) -> None:
    capacity, utilisation = [c / (1 + own) for c in tiers[0]], tiers[1]
    floor = [c * (1 + own) / (1 + own + competitors) for c in capacity]
    assume(
        len({round(max(c * (1 - u), f)) for c, u, f in zip(capacity, utilisation, floor, strict=True)}) == len(floor)
    )
    error = largest_error(capacity, utilisation, floor)
    assume(error > 1e-6)
    assert not can_change(capacity, utilisation, floor, min(error, 1.0) * (1 - 1e-6))
    assert error > 1 or can_change(capacity, utilisation, floor, error * (1 + 1e-6))


def test_a_utilisation_does_not_fall_below_zero() -> None:
    """25 and 12.5 GB/s at 0.4 and 0: the second cannot have more left than all of it."""
    assert largest_error([25.0, 12.5], [0.4, 0.0]) == pytest.approx(0.1)
    assert order(available([25.0, 12.5], [0.4 + 0.09, 0.0])) == [0, 1]
    assert order(available([25.0, 12.5], [0.4 + 0.11, 0.0])) == [1, 0]


def test_with_a_floor_no_error_may_suffice() -> None:
    assert largest_error([30.0, 10.0], [0.9, 0.0], [10.0, 3.3]) == math.inf
    assert order_is_certain((30.0, 0), (10.0, 0), competitors=2)
    assert not order_is_certain((29.0, 0), (10.0, 0), competitors=2)
    assert not order_is_certain((30.0, 1), (10.0, 0), competitors=2)


def busy_view(rng: np.random.Generator, transfers: int, *, by_tier: bool) -> View:
    """The default fabric with so many of our own transfers in flight, which began after any sample."""
    in_flight = InFlight(TABLE)
    for number in range(transfers):
        in_flight.start(number, int(rng.choice(ROLES.prefill)), int(rng.choice(ROLES.decode)), 1e9, now_s=0.0)
    return View(TABLE, in_flight, kv_bytes_per_token=KAPPA, stripes=4, transfer_full=False, rng=rng, by_tier=by_tier)


def left_with(network: View, utilisation: NDArray[np.float64]) -> NDArray[np.float64]:
    network.adopt(NetworkSample(-1.0, utilisation))
    return network.available_Bps(candidates())


@given(seed=st.integers(0, 2**32 - 1), by_tier=st.booleans(), transfers=st.integers(0, 8))
def test_no_sample_takes_what_is_left_out_of_its_range(seed: int, by_tier: bool, transfers: int) -> None:
    """Of the implemented view: between all links idle and all links full, and these are a factor apart."""
    rng = np.random.default_rng(seed)
    network = busy_view(rng, transfers, by_tier=by_tier)
    links = len(FABRIC.links)
    most, least = (left_with(network, utilisation) for utilisation in (np.zeros(links), np.ones(links)))
    if not transfers:
        assert least == pytest.approx(most / (1 + BACKGROUND_COMPETITORS))
    for _ in range(2):
        left = left_with(network, rng.uniform(0, 1, links))
        assert (left >= least * (1 - 1e-12)).all()
        assert (left <= most * (1 + 1e-12)).all()
        ahead = [(i, j) for i in range(len(left)) for j in range(len(left)) if least[i] >= most[j]]
        assert all(left[i] >= left[j] * (1 - 1e-12) for i, j in ahead)
        assert ahead or transfers or not by_tier


@given(seed=st.integers(0, 2**32 - 1), transfers=st.integers(0, 8))
def test_tiers_far_enough_apart_never_change_places(seed: int, transfers: int) -> None:
    rng = np.random.default_rng(seed)
    network = busy_view(rng, transfers, by_tier=True)
    own = network.tier_Bps(candidates()) / network.nominal_Bps(candidates()) - 1
    tiers = list(zip(network.tier_Bps(candidates()), own, strict=True))
    left = left_with(network, rng.uniform(0, 1, len(FABRIC.links)))
    for i, better in enumerate(tiers):
        for j, worse in enumerate(tiers):
            if order_is_certain(better, worse, BACKGROUND_COMPETITORS):
                assert left[i] >= left[j] * (1 - 1e-12)


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
    stale = [min(max(u + data.draw(st.floats(-1, 1)) * error * (1 - 1e-6), 0.0), 1.0) for u in utilisation]
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


def test_the_transfer_itself_is_part_of_the_age_that_counts() -> None:
    assert longest_staleness_s(0.1, 0.02, transfer_s=1.5) == pytest.approx(3.5)
    assert longest_staleness_s(0.1, 0.02, transfer_s=9.0) == 0.0
