"""How long one decision takes: prefix lookup, the candidates' state, the policy, its check and the booking.

Run with `pytest tests/bench/test_decision_latency.py -q -s`. Wall time of `Dispatcher.select` beside 64 transfers in
flight, prompts of 24 blocks of which a few instances hold some; the median over nine turns of each turn's p50 and p99,
because somebody else may use the machine meanwhile.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from statistics import median

import numpy as np
import pytest

from scenario import Scenario, SloSpec
from scheduler import POLICIES, Candidates, Dispatcher, NetworkSample, Policy, View
from scheduler.hooks import hooks_of
from tests.support.bare_loop import bare_loop_s
from tests.support.bench_ratios import Ratios
from topologies import FabricSpec
from workloads import Request

PODS_OF = {16: 2, 64: 4, 256: 8, 1024: 16, 4096: 64}
"""D decode instances and as many prefill instances of 2 GPUs: eight a rack."""

TURNS, DECISIONS, IN_FLIGHT, PREFILLS = 9, 600, 64, 32
COMPARED = ("round_robin", "cla_star", "netkv_full")
TARGET_P99_US = {64: 50.0, 1024: 150.0}


class Router:
    """A dispatcher on a fabric of D decode instances, kept busy."""

    def __init__(self, policy: str, instances: int) -> None:
        pods = PODS_OF[instances]
        fabric = FabricSpec(pods=pods, racks_per_pod=2 * instances // pods // 8, gpus_per_instance=2)
        scenario = Scenario(fabric=fabric, policy=policy, slo=SloSpec(ttft_s=1e9))
        built, roles = scenario.build()
        assert len(roles.decode) == instances
        self.dispatcher = Dispatcher(scenario, built, roles)
        self.rng = np.random.default_rng(0)
        self.dispatcher.offer_sample(NetworkSample(0.0, self.rng.uniform(0, 1, len(built.links))), 0.0)
        self.prefills = roles.prefill[:: max(len(roles.prefill) // PREFILLS, 1)]
        self.open: deque[int] = deque()
        self.number = 0

    def decide(self, count: int) -> list[float]:
        """Microseconds of each of `count` decisions."""
        taken_us = []
        for _ in range(count):
            conversation = int(self.rng.integers(200))
            blocks = (0, *range(1000 * (conversation + 1), 1000 * (conversation + 1) + 23))
            request = Request(self.number, 0.0, 12_000, 300, blocks)
            prefill_id = self.prefills[int(self.rng.integers(len(self.prefills)))]
            begin_ns = time.perf_counter_ns()
            self.dispatcher.select(request, prefill_id, self.number * 0.01)
            taken_us.append((time.perf_counter_ns() - begin_ns) / 1e3)
            self.open.append(self.number)
            self.number += 1
            if len(self.open) > IN_FLIGHT:
                oldest = self.open.popleft()
                for step in (self.dispatcher.transferred, self.dispatcher.admitted, self.dispatcher.finished):
                    step(oldest)
        return taken_us


def measure(policy: str, instances: int, ratios: Ratios | None = None) -> tuple[float, float]:
    """Medians over the turns of p50 and p99, microseconds; the p50s are held against a bare event."""
    router = Router(policy, instances)
    router.decide(DECISIONS)
    gc.collect()
    turns, bare_us = [], []
    for _ in range(TURNS):
        bare_us.append(1e6 * bare_loop_s())
        turns.append(router.decide(DECISIONS))
    p50_us, p99_us = ([float(np.percentile(turn, percent)) for turn in turns] for percent in (50, 99))
    if ratios is not None:
        ratios.note(f"a decision of {policy}, D = {instances}", "a bare event", bare_us, p50_us)
    return median(p50_us), median(p99_us)


@pytest.mark.timeout(900)
def test_decision_latency_of_every_policy(ratios: Ratios) -> None:
    sizes = [16, 64, 256, 1024]
    print(f"\n{'p50 / p99, us':20}" + "".join(f"{'D = ' + str(size):>16}" for size in sizes))
    p99_us = {}
    for policy in POLICIES:
        row = f"{policy:20}"
        for size in sizes:
            p50, p99 = measure(policy, size, ratios if policy in COMPARED else None)
            p99_us[policy, size] = p99
            row += f"{p50:8.1f}/{p99:6.1f} "
        print(row)
    for size, target in TARGET_P99_US.items():
        assert p99_us["netkv_full", size] <= target


@pytest.mark.timeout(600)
def test_a_decision_costs_time_in_proportion_to_the_instances() -> None:
    sizes = [16, 64, 256, 1024, 4096]
    print("\nNetKV-Full: D, p50 (us)")
    p50_us = []
    for size in sizes:
        p50_us.append(measure("netkv_full", size)[0])
        print(f"{size:6} {p50_us[-1]:8.1f}")
    slope, base = np.polyfit(sizes, p50_us, 1)
    steepest = np.log(p50_us[-1] / p50_us[-2]) / np.log(sizes[-1] / sizes[-2])
    print(f"fit: {base:.1f} us + {1e3 * slope:.1f} ns an instance; log-log slope from 1024 to 4096: {steepest:.2f}")
    assert steepest < 1.15


class NoHooks:
    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        return int(candidates.decode_id[0])


class EmptyHooks(NoHooks):
    def placed(self, request: Request, decode_id: int) -> None:
        """Nothing, as the others."""

    transferred = admitted = token_block = finished = placed


def lives_us(policy: Policy, name: str = "random", requests: int = 400) -> float:
    """CPU time of a request's four steps in the dispatcher, microseconds: select, transferred, admitted, finished.

    By the name of one of ours how long the policy takes is not watched, by another's it is.
    """
    scenario = Scenario(policy=name)
    built, roles = scenario.build()
    dispatcher = Dispatcher(scenario, built, roles, policy)
    begin_ns = time.process_time_ns()
    for number in range(requests):
        dispatcher.select(Request(number, 0.0, 12_000, 300, (0, number + 1)), roles.prefill[0], number * 0.01)
        for step in (dispatcher.transferred, dispatcher.admitted, dispatcher.finished):
            step(number)
    return (time.process_time_ns() - begin_ns) / 1e3 / requests


def test_what_hooks_cost_and_that_a_policy_without_pays_nothing() -> None:
    """In turn, and the least of 60 turns of each: what else the machine does can only add to it."""
    kinds = ((NoHooks(), "random"), (EmptyHooks(), "random"), (NoHooks(), "mine:Policy"), (EmptyHooks(), "mine:Policy"))
    turns = [[lives_us(policy, name) for policy, name in kinds] for _ in range(60)]
    without, empty, own_without, own_empty = (min(turn[at] for turn in turns) for at in range(len(kinds)))
    print(f"\na request's steps in the dispatcher: {without:.2f} us without hooks, {empty:.2f} us with empty ones;")
    print(f"of a user's own policy, whose time is watched: {own_without:.2f} and {own_empty:.2f} us")
    assert hooks_of(NoHooks(), "mine:Policy", 5.0) is None
    assert empty - without < 10
    assert own_without < own_empty < own_without + 100
