"""Small runs of the analytic world, with every number chosen so that a test can do the sum."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from scenario import BackgroundFlow, CongestionSpec, ModelSpec, OracleSpec, Scenario, WorkloadSpec
from serving import Outcome
from simulator.analytic_world import AnalyticWorld
from simulator.closed_form import ClosedFormTransport
from simulator.path_choice import PathChoice
from simulator.simulated_run import SimulatedRun
from simulator.simulation import SimulationSpec
from simulator.transport import FluidTransport, Transport
from topologies import FabricSpec
from workloads import BLOCK_TOKENS, Request

PREFILL_S = 0.057
"""A prompt of one block on eight GPUs, by the table of `scenario.model`."""

TRANSFER_S = 4.0
"""That prompt, 512 tokens of 1 MB, over a NIC of 128 MB/s."""

LATENCY_S = 4 * 0.01
"""Four hops within the rack."""

STEP_S = 0.5
"""A decode step, whatever the batch."""


def one_pair(policy: str = "netkv_topo_only", **changes: Any) -> Scenario:
    """One rack of two servers with one instance each: h0 prefills, h1 decodes; nothing else moves."""
    sections: dict[str, Any] = {
        "fabric": FabricSpec(pods=1, racks_per_pod=1, gpus_per_instance=8, nic_rate_bps=1.024e9, hop_latency_s=0.01),
        "model": ModelSpec(kv_bytes_per_token=1e6, prefill="table", step_table_s=((1, STEP_S),)),
        "oracle": OracleSpec(source="static"),
        "congestion": CongestionSpec(kind="none"),
    }
    return Scenario(policy=policy, **(sections | changes))


def prompt(request_id: int, at_s: float, output_tokens: int = 3, *, block: int | None = None) -> Request:
    """A request of one block, which nobody else has unless `block` names it."""
    blocks = (1000 + request_id if block is None else block,)
    return Request(request_id, at_s, BLOCK_TOKENS, output_tokens, blocks)


def play(
    scenario: Scenario,
    requests: Iterable[Request],
    background: Iterable[BackgroundFlow] = (),
    simulation: SimulationSpec = SimulationSpec(),  # noqa: B008 - frozen
) -> Outcome:
    fabric, _ = scenario.build()
    transport: Transport
    if simulation.network == "closed_form":
        transport = ClosedFormTransport(fabric, -scenario.lead_s)
    else:
        transport = FluidTransport(fabric, PathChoice(scenario.seed, simulation.spreading), start_s=-scenario.lead_s)
    return play_on(transport, scenario, requests, background, simulation)


def play_on(
    transport: Transport,
    scenario: Scenario,
    requests: Iterable[Request],
    background: Iterable[BackgroundFlow] = (),
    simulation: SimulationSpec = SimulationSpec(),  # noqa: B008 - frozen
) -> Outcome:
    fabric, roles = scenario.build()
    return SimulatedRun(scenario, simulation, fabric, roles, list(requests), tuple(background), transport).run()


def run(scenario: Scenario, simulation: SimulationSpec = SimulationSpec()) -> Outcome:  # noqa: B008 - frozen
    """A whole run of the analytic world."""
    with AnalyticWorld(scenario, simulation) as world:
        return world.run(scenario)


def small(policy: str = "netkv_full", **changes: Any) -> Scenario:
    """Eighty requests of the default scenario, at twice their pace."""
    return Scenario(policy=policy, **({"workload": WorkloadSpec(requests=80, speedup=2)} | changes))


def fingerprint(outcome: Outcome) -> str:
    """A hash of everything that goes into a run's result files."""
    told = asdict(outcome)
    told["evidence"].pop("measured")
    return hashlib.sha256(repr(told).encode()).hexdigest()
