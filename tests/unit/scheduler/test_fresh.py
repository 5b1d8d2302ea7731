"""NetKV-Fresh: what it learns of the links from its snapshots, and how it decides by a snapshot's age."""

from __future__ import annotations

from itertools import pairwise
from statistics import mean

import numpy as np
import pytest

from scenario import CongestionSpec, OracleSpec, Scenario, WorkloadSpec
from scheduler import NetworkSample, Policy, View, find_policy
from scheduler.link_history import LinkHistory
from tests.support.analytic_runs import run
from tests.support.one_decision import FABRIC, REQUEST, SERVER_OF, TABLE, candidates, view

INTO_SERVER_1 = next(at for at, link in enumerate(FABRIC.links) if link.name == SERVER_OF[2])

MOST_LOSS = 0.02
"""What NetKV-Fresh may lose of the mean KV transfer against NetKV-Static at old snapshots: chance, in three runs."""


def history() -> LinkHistory:
    return LinkHistory(TABLE.capacity_Bps, TABLE.link_level)


def full(*links: int) -> np.ndarray:
    """Other traffic, bytes/s: these links are full, the others idle."""
    others_Bps = np.zeros(len(TABLE.capacity_Bps))
    others_Bps[list(links)] = TABLE.capacity_Bps[list(links)]
    return others_Bps


def on_off(period_s: float, every_s: np.ndarray, seed: int) -> LinkHistory:
    """Snapshots of links that are full or idle in turn, each on its own, for exponential periods of this mean."""
    rng = np.random.default_rng(seed)
    capacity_Bps = np.full(16, 1e9)
    links, busy = LinkHistory(capacity_Bps, np.ones(16, dtype=np.int64)), rng.random(16) < 0.5
    for before_s, now_s in pairwise(every_s):
        flips = rng.poisson((now_s - before_s) / period_s, 16)
        busy = busy ^ (flips % 2 == 1)
        links.see(now_s, busy * capacity_Bps)
    return links


# What is learnt


def test_the_mean_is_of_times_and_starts_from_the_level() -> None:
    """Slowdowns 1 and 3; the level's 16 links have (30 + 4) / 32 = 1.0625: (4 x 1.0625 + 1 + 3) / 6."""
    links = history()
    links.see(0.0, full())
    links.see(1.0, full(INTO_SERVER_1))
    assert links.mean[INTO_SERVER_1] == pytest.approx(8.25 / 6)
    assert links.mean_others_Bps[INTO_SERVER_1] == pytest.approx(25e9 * (1 - 6 / 8.25))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("period_s", "interval_s"), [(2.0, 0.1), (2.0, 0.5), (2.0, 1.0), (15.0, 0.5), (15.0, 5.0)])
def test_tau_of_equal_on_and_off_periods_is_half_of_one(period_s: float, interval_s: float, seed: int) -> None:
    every_s = np.arange(0, 150 * period_s, interval_s)
    assert on_off(period_s, every_s, seed).tau_s[1:] == pytest.approx(period_s / 2, rel=0.25)


def test_tau_does_not_need_regular_snapshots() -> None:
    every_s = np.cumsum(np.random.default_rng(3).exponential(0.4, 800))
    assert on_off(2.0, every_s, 1).tau_s[1] == pytest.approx(1.0, rel=0.25)


def test_snapshots_farther_apart_than_congestion_lasts_are_believed_for_a_third_of_the_interval_at_most() -> None:
    assert on_off(1.0, np.arange(0, 6000, 30.0), 0).tau_s[1] < 10


def test_one_snapshot_says_nothing_of_how_long_it_holds_and_a_repeated_one_changes_nothing() -> None:
    links = history()
    for _ in range(3):
        links.see(0.0, full(INTO_SERVER_1))
    assert links.snapshots == 1
    assert links.weight(0.0).tolist() == [0, 0, 0, 0]


def test_what_never_changes_is_believed_for_longer_and_longer() -> None:
    links = history()
    taus_s = []
    for at in range(50):
        links.see(float(at), full(INTO_SERVER_1))
        taus_s.append(links.tau_s[1])
    assert taus_s[0] == 0
    assert taus_s[1] < taus_s[10] < taus_s[49]
    assert links.weight(1.0)[1] > 0.9


# How it decides


def after_a_quarter_of_the_time(policy: Policy) -> View:
    """The view at 201 s: every 20 s the link into server 1 was full for 5 s, and it is full again since then.

    Its mean slowdown is about 1.5: 25 / 1.5 = 16.7 GB/s is still more than 12.5 within the pod.
    """
    network = view()
    for at in range(201):
        busy = at % 20 < 5
        network.adopt(NetworkSample(float(at), full(INTO_SERVER_1) / TABLE.capacity_Bps * busy))
        network.move_to(at + 0.01)
        policy.select(REQUEST, candidates(), network)
    return network


@pytest.mark.parametrize(("age_s", "best"), [(0.01, 6), (0.5, 6), (50.0, 2), (1e6, 2)])
def test_a_fresh_snapshot_decides_as_full_and_an_old_one_as_the_past(age_s: float, best: int) -> None:
    policy = find_policy("netkv_fresh")()
    network = after_a_quarter_of_the_time(policy)
    network.move_to(200 + age_s)
    assert find_policy("netkv_full")().select(REQUEST, candidates(), network) == 6
    assert policy.select(REQUEST, candidates(), network) == best


def test_with_a_lost_snapshot_it_decides_as_static_and_says_so() -> None:
    policy = find_policy("netkv_fresh")()
    network = after_a_quarter_of_the_time(policy)
    network.lose("no document")
    network.move_to(201.0)
    assert policy.select(REQUEST, candidates(), network) == 2
    assert network.missed == "no telemetry: no document"


def mean_transfer_ms(policy: str, refresh_s: float) -> float:
    """Over three seeds, hot spots with mean periods of 2 s."""
    scenarios = [
        Scenario(
            policy=policy,
            seed=seed,
            workload=WorkloadSpec(requests=500, max_output_tokens=64),
            congestion=CongestionSpec(mean_on_s=2.0, mean_off_s=2.0),
            oracle=OracleSpec(refresh_s=refresh_s),
        )
        for seed in (10, 11, 12)
    ]
    return mean(one.kv_transfer_ms for scenario in scenarios for one in run(scenario).requests)


def test_an_old_snapshot_costs_no_more_than_having_none() -> None:
    static_ms = mean_transfer_ms("netkv_static", 1.0)
    assert mean_transfer_ms("netkv_fresh", 1.0) < static_ms
    for refresh_s in (5.0, 30.0):
        assert mean_transfer_ms("netkv_fresh", refresh_s) < (1 + MOST_LOSS) * static_ms
    assert mean_transfer_ms("netkv_full", 30.0) > (1 + MOST_LOSS) * static_ms
