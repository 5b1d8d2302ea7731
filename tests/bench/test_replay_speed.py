"""How fast the analytic world replays whole workloads, and what an event costs as more flows share the network.

CPU seconds beside wall seconds, because other work on a machine slows only the latter. Peak memory is the process's so
far, so it is that of the largest run above the line.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from scenario import CongestionSpec, Scenario, WorkloadSpec
from serving import Outcome
from simulator.analytic_world import AnalyticWorld
from topologies import FabricSpec

CONVERSATION_REQUESTS = 12_031
CONVERSATION_RPS = 3.4

FABRICS = {
    64: FabricSpec(),
    256: FabricSpec(pods=4, racks_per_pod=2, servers_per_rack=4),
    1024: FabricSpec(pods=8, racks_per_pod=4, servers_per_rack=4),
}
"""By number of GPUs."""


def run(scenario: Scenario) -> tuple[Outcome, float]:
    """The outcome and the CPU seconds that it took, making the workload included."""
    started_s = time.process_time()
    with AnalyticWorld(scenario) as world:
        outcome = world.run(scenario)
    return outcome, time.process_time() - started_s


def tell(name: str, outcome: Outcome, cpu_s: float) -> None:
    evidence, measured = outcome.evidence, outcome.evidence["measured"]
    print(
        f"\n{name:>32}: {len(outcome.requests):7} requests, {evidence['events']:8} events, {cpu_s:6.1f} s CPU, "
        f"{measured['wall_s']:6.1f} s wall, {evidence['events'] / cpu_s:7.0f} events/s, "
        f"{cpu_s / evidence['events'] * 1e6:5.1f} us/event, {evidence['mean_flows']:6.1f} flows, "
        f"decision p50/p99 {measured['decision_us']['p50']:.0f}/{measured['decision_us']['p99']:.0f} us, "
        f"peak {measured['peak_rss_bytes'] / 2**20:.0f} MiB",
        end="",
    )


@pytest.fixture(scope="module", autouse=True)
def compiled() -> Iterator[None]:
    """Compile before the first measurement."""
    run(Scenario(workload=WorkloadSpec(requests=20)))
    yield
    print()


@pytest.mark.parametrize("policy", ["round_robin", "cla", "netkv_static", "netkv_full"])
def test_the_whole_conversation_trace_on_64_gpus(policy: str) -> None:
    outcome, cpu_s = run(Scenario(policy=policy, workload=WorkloadSpec(requests=CONVERSATION_REQUESTS)))
    tell(policy, outcome, cpu_s)
    assert cpu_s < 10


@pytest.mark.parametrize("connections", [8, 32, 128, 512])
def test_what_an_event_costs_as_background_grows(connections: int) -> None:
    hot_spot = CongestionSpec(flows=connections, mean_on_s=60.0, mean_off_s=0.1)
    load = WorkloadSpec(requests=8_000, rate_rps=CONVERSATION_RPS * 4)
    outcome, cpu_s = run(Scenario(fabric=FABRICS[256], workload=load, congestion=hot_spot))
    tell(f"{connections} background connections", outcome, cpu_s)


@pytest.mark.parametrize("gpus", FABRICS)
def test_what_an_event_costs_as_the_system_grows(gpus: int) -> None:
    load = WorkloadSpec(requests=200 * gpus // 16, rate_rps=CONVERSATION_RPS * gpus / 64)
    outcome, cpu_s = run(Scenario(fabric=FABRICS[gpus], workload=load))
    tell(f"{gpus} GPUs", outcome, cpu_s)


def test_sixteen_times_the_trace_on_1024_gpus() -> None:
    load = WorkloadSpec(requests=16 * CONVERSATION_REQUESTS, rate_rps=16 * CONVERSATION_RPS)
    outcome, cpu_s = run(Scenario(fabric=FABRICS[1024], workload=load))
    tell("1024 GPUs, 16 traces", outcome, cpu_s)
    assert cpu_s < 180
    assert outcome.evidence["measured"]["peak_rss_bytes"] < 2**30
