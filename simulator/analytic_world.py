"""The analytic world: the interface of `testbed.emulated_world`, without a fabric to bring up.

Deterministic: an Outcome depends on the scenario and the simulation's specification alone, except for
`evidence["measured"]`, which holds wall times and memory of this run.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np

from scenario import Scenario, load_workload
from scheduler import Policy
from serving import Outcome, Watch, offered_and_measured
from simulator.cache_warming import warm_caches
from simulator.closed_form import ClosedFormTransport
from simulator.faulty_transport import FaultyTransport
from simulator.path_choice import PathChoice
from simulator.simulated_run import SimulatedRun
from simulator.simulation import SimulationSpec
from simulator.transport import FluidTransport, Transport
from topologies import Fabric

Say = Callable[[str], None]
Progress = Callable[[int], None]


class AnalyticWorld:
    """An event-driven model of the serving system on a fluid, or closed-form, network.

    `run(scenario)` replays a scenario of any fabric. Raises SimulationError when a run makes no progress, and the
    errors of the packages it uses (FabricError, WorkloadError, PolicyError) for what they refuse.
    """

    def __init__(
        self,
        scenario: Scenario,
        simulation: SimulationSpec = SimulationSpec(),  # noqa: B008 - frozen
        say: Say = lambda _: None,
        stopwatch: Callable[[], int] = time.perf_counter_ns,
        policy: Policy | None = None,
    ) -> None:
        """`policy`: decides instead of a new one of the name that the scenario has."""
        self._scenario = scenario
        self._simulation = simulation
        self._say = say
        self._stopwatch = stopwatch
        self._policy = policy
        self.evidence: dict[str, Any] = simulation.model_dump(mode="json", include={"network", "spreading"})

    def __enter__(self) -> AnalyticWorld:
        self._scenario.build()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to give back."""

    def run(self, scenario: Scenario, progress: Progress = lambda _: None, watch: Watch | None = None) -> Outcome:
        """Replay a scenario and return what happened; who watches changes nothing of it."""
        fabric, roles = scenario.build()
        workload = load_workload(scenario)
        requests = workload.requests
        warm = warm_caches(scenario, fabric, roles, workload.preceding)
        last_s = requests[-1].timestamp_s if requests else 0.0
        background = scenario.background(fabric, roles, last_s)
        replay = SimulatedRun(
            scenario,
            self._simulation,
            fabric,
            roles,
            requests,
            background,
            self._transport(fabric, scenario),
            say=progress,
            stopwatch=self._stopwatch,
            policy=self._policy,
            prefixes=warm.prefixes,
            watch=watch,
        )
        started_ns = time.perf_counter_ns()
        outcome = replay.run()
        wall_s = (time.perf_counter_ns() - started_ns) / 1e9
        outcome.evidence |= self.evidence | warm.evidence
        outcome.evidence["congestion"] = offered_and_measured(scenario, outcome, background)
        outcome.evidence["measured"] = {
            "wall_s": wall_s,
            "events_per_s": replay.events / wall_s,
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "decision_us": _spread(replay.decisions_us),
        }
        return outcome

    def _transport(self, fabric: Fabric, scenario: Scenario) -> Transport:
        if self._simulation.network == "closed_form":
            return ClosedFormTransport(fabric, -scenario.lead_s)
        persistent = scenario.serving.connections == "persistent"
        choice = PathChoice(scenario.seed, self._simulation.spreading)
        cancels = scenario.faults.kinds or math.isfinite(scenario.serving.retry.timeout_s)
        kind = FaultyTransport if cancels else FluidTransport
        return kind(fabric, choice, persistent, -scenario.lead_s)


def _spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    known = np.array(values)
    percentiles = {f"p{percent}": float(np.percentile(known, percent)) for percent in (50, 90, 99)}
    return {"count": len(values), "mean": float(known.mean()), **percentiles, "max": float(known.max())}
