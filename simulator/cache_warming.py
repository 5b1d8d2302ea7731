"""What the prefix caches hold at t = 0 where a specification warms them: the same in both worlds.

The requests before the first one of a run are served by the run's own policy in the fluid model of its fabric, without
background traffic and faults. What the decode instances hold in the end is handed to the run, and nothing else: no
load, no transfer, no telemetry, no state of the policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scenario import CongestionSpec, FaultsSpec, Scenario
from scheduler import Policy, PolicyError, PrefixIndex
from serving import POLICY_ERROR
from simulator.path_choice import PathChoice
from simulator.simulated_run import SimulatedRun
from simulator.simulation import SimulationSpec
from simulator.transport import FluidTransport
from topologies import Fabric, Roles
from workloads import Request


@dataclass(frozen=True)
class WarmCaches:
    """`prefixes`: what each decode instance holds, None for nothing; `evidence`: the same in tokens, for the manifest.

    `evidence["warm_caches"]` has `requests`, how many were served, and `tokens` by decode instance; it is empty where
    nothing was warmed.
    """

    prefixes: PrefixIndex | None
    evidence: dict[str, Any]


def warm_caches(
    scenario: Scenario, fabric: Fabric, roles: Roles, preceding: list[Request], policy: Policy | None = None
) -> WarmCaches:
    """Serve the `preceding` requests (`scenario.load_workload`), numbered and timed from 0, and return what is held.

    `policy`: instead of a new one of the scenario's name. Deterministic where the policy is. PolicyError when it breaks
    its contract on the way.
    """
    if not preceding:
        return WarmCaches(None, {})
    quiet = scenario.model_copy(update={"congestion": CongestionSpec(kind="none"), "faults": FaultsSpec()})
    persistent = scenario.serving.connections == "persistent"
    transport = FluidTransport(fabric, PathChoice(scenario.seed, "hashed"), persistent, -quiet.lead_s)
    run = SimulatedRun(quiet, SimulationSpec(), fabric, roles, preceding, (), transport, policy=policy)
    broken = run.run().evidence.get(POLICY_ERROR)
    if broken:
        raise PolicyError(f"workload.warm_requests: {broken}")
    block_tokens = preceding[0].block_tokens
    held = dict(zip(map(str, roles.decode), (block_tokens * n for n in run.prefixes.held_blocks()), strict=True))
    return WarmCaches(run.prefixes, {"warm_caches": {"requests": len(preceding), "tokens": held}})
