"""Whole workloads in the analytic world on fabrics of 64 to 16,384 GPUs, timed beside a bare event loop."""

from __future__ import annotations

import time
from typing import NamedTuple

from scenario import Scenario, WorkloadSpec
from serving import Outcome
from simulator.analytic_world import AnalyticWorld
from tests.support.bare_loop import bare_loop_s
from topologies import FabricSpec

CONVERSATION_REQUESTS = 12_031
CONVERSATION_RPS = 3.4

FABRICS = {
    64: FabricSpec(),
    256: FabricSpec(pods=4, racks_per_pod=2, servers_per_rack=4),
    1024: FabricSpec(pods=8, racks_per_pod=4, servers_per_rack=4),
    4096: FabricSpec(pods=16, racks_per_pod=8, servers_per_rack=4),
    16384: FabricSpec(pods=64, racks_per_pod=8, servers_per_rack=4),
}
"""By number of GPUs."""


class Replay(NamedTuple):
    """A run and what it took: CPU seconds from the specification to the outcome, making the workload included.

    `bare_s`: CPU seconds of a bare event, measured before and after.
    """

    outcome: Outcome
    cpu_s: float
    bare_s: float

    @property
    def events(self) -> int:
        return int(self.outcome.evidence["events"])

    @property
    def event_s(self) -> float:
        return self.cpu_s / self.events

    def told(self, name: str) -> str:
        """The run in a line."""
        evidence, measured = self.outcome.evidence, self.outcome.evidence["measured"]
        decision_us = measured["decision_us"]
        return (
            f"{name:>34}: {len(self.outcome.requests):7} requests, {self.events:7} events, {self.cpu_s:6.1f} s CPU, "
            f"{measured['wall_s']:6.1f} s wall, {self.event_s * 1e6:5.1f} us/event ({self.event_s / self.bare_s:.0f} "
            f"bare events), {evidence['mean_flows']:5.1f} flows, decision p50/p99 {decision_us['p50']:.0f}/"
            f"{decision_us['p99']:.0f} us, peak {measured['peak_rss_bytes'] / 2**20:.0f} MiB"
        )


def replay(scenario: Scenario) -> Replay:
    """Make a run."""
    bare_s = bare_loop_s()
    started_s = time.process_time()
    with AnalyticWorld(scenario) as world:
        outcome = world.run(scenario)
    cpu_s = time.process_time() - started_s
    return Replay(outcome, cpu_s, (bare_s + bare_loop_s()) / 2)


def load_on(gpus: int, requests: int, policy: str = "netkv_full") -> Scenario:
    """The conversation's load for each GPU, so many requests of it."""
    load = WorkloadSpec(requests=requests, rate_rps=CONVERSATION_RPS * gpus / 64)
    return Scenario(fabric=FABRICS[gpus], policy=policy, workload=load)
