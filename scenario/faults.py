"""What may break during a run: the section `faults` of a specification. `fault_plan` makes a plan of it."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from scenario.sections import PositiveSeconds, Section

FaultKind = Literal[
    "link_down",
    "link_degraded",
    "link_lossy",
    "switch_down",
    "telemetry_frozen",
    "telemetry_delayed",
    "telemetry_corrupted",
    "controller_killed",
    "background_surge",
    "prefill_worker_killed",
    "decode_worker_killed",
    "worker_hung",
    "machine_paused",
]

FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
NETWORK_FAULTS = ("link_down", "link_degraded", "link_lossy", "switch_down")
WORKER_FAULTS = frozenset({"prefill_worker_killed", "decode_worker_killed", "worker_hung"})
TELEMETRY_FAULTS = ("telemetry_frozen", "telemetry_delayed", "telemetry_corrupted", "controller_killed")

ONLY_TARGET = {
    "telemetry_frozen": "oracle",
    "telemetry_delayed": "oracle",
    "telemetry_corrupted": "oracle",
    "controller_killed": "controller",
    "machine_paused": "machine",
}
"""Kinds with one thing that they can hit, which need not be named."""

EMULATED_ONLY = {
    "link_lossy": "the analytic world has no frames to lose: link_degraded is the nearest fault there",
    "controller_killed": "the analytic world has no controller: telemetry_frozen is the nearest fault there",
    "worker_hung": "the analytic world has no process to stop: decode_worker_killed is the nearest fault there",
    "machine_paused": "the analytic world runs on no machine, and all that waits would shift: leave it out",
}
"""Kinds that the analytic world cannot have, with the reason and the remedy."""


class FaultEvent(Section):
    """One fault: what breaks, when, and for how long. Several events of one target make it flap."""

    at_s: float = Field(
        ge=0, le=1e7, allow_inf_nan=False, description="When it begins, seconds of the run from t = 0, 0 to 1e7."
    )
    kind: FaultKind = Field(
        description="`link_down`, `switch_down`: no frame passes. `link_degraded`: `share` of the rate is left."
        " `link_lossy`: `loss` of the frames are lost (emulated world only). `telemetry_frozen`: no new snapshot"
        " reaches the scheduler. `telemetry_delayed`: snapshots arrive `delay_s` later. `telemetry_corrupted`: they are"
        " damaged and refused. `controller_killed`: forwarding goes on, telemetry and detours end (emulated world"
        " only). `background_surge`: greedy connections from other racks into an instance's server."
        " `prefill_worker_killed`, `decode_worker_killed`: the instance loses its requests. `worker_hung`: its process"
        " is stopped (emulated world only). `machine_paused`: every process of the testbed is stopped, switches and"
        " scheduler too; it needs `for_s` (emulated world only)."
    )
    target: str = Field(
        "",
        description="What it hits: a link (`tor0>agg1`; the cable, so both directions), a switch (`core0`), or an"
        " instance (`h3`). Faults of telemetry, of the controller and of the machine need none.",
    )
    for_s: PositiveSeconds | None = Field(
        None, description="How long it lasts, s, above 0. None: until the run is over."
    )
    share: float = Field(
        0.5, gt=0, lt=1, description="Part of the rate that link_degraded leaves in each direction, between 0 and 1."
    )
    loss: float = Field(
        0.01, gt=0, lt=1, description="Part of the frames that link_lossy loses in each direction, between 0 and 1."
    )
    delay_s: float = Field(
        1.0, gt=0, le=3600, allow_inf_nan=False, description="Added delay of telemetry_delayed, s, at most 3600."
    )

    @model_validator(mode="before")
    @classmethod
    def _the_only_target(cls, given: Any) -> Any:
        if isinstance(given, dict) and not given.get("target") and given.get("kind") in ONLY_TARGET:
            return {**given, "target": ONLY_TARGET[given["kind"]]}
        return given

    @model_validator(mode="after")
    def _a_pause_ends(self) -> FaultEvent:
        if self.kind == "machine_paused" and self.for_s is None:
            raise ValueError("machine_paused needs for_s: nobody is left to end it")
        return self


class RandomFaults(Section):
    """Faults drawn from a seed: a Poisson process until the last arrival, of exponential durations.

    Links and switches are drawn among those that equal-cost paths can avoid: cables above a ToR, aggregation and core
    switches. All kinds, and all targets of a kind, are equally likely.
    """

    rate: float = Field(0.0, ge=0, le=1000, description="Mean number of faults per second, 0 to 1000. 0: none.")
    kinds: tuple[FaultKind, ...] = Field(("link_down",), min_length=1, description="Kinds to draw from, at least one.")
    mean_for_s: PositiveSeconds = Field(1.0, description="Mean duration, s, above 0.")
    share: float = Field(0.5, gt=0, lt=1, description="As of an event: rate that link_degraded leaves.")
    loss: float = Field(0.01, gt=0, lt=1, description="As of an event: frames that link_lossy loses.")
    delay_s: float = Field(1.0, gt=0, le=3600, description="As of an event: delay that telemetry_delayed adds, s.")
    seed: int | None = Field(
        None, ge=0, lt=2**32, description="Seed of these faults, 0 to 4,294,967,295. None: the seed of the run."
    )


class FaultsSpec(Section):
    """What breaks during a run: listed events, random ones, or both. A list stands for `events` alone."""

    events: tuple[FaultEvent, ...] = Field((), description="Faults at stated times.")
    random: RandomFaults = Field(RandomFaults(), description="Faults drawn from a seed.")

    @model_validator(mode="before")
    @classmethod
    def _a_list_of_events(cls, given: Any) -> Any:
        return {"events": given} if isinstance(given, (list, tuple)) else given

    @property
    def kinds(self) -> frozenset[FaultKind]:
        """Every kind that a run of this specification may have."""
        drawn = self.random.kinds if self.random.rate else ()
        return frozenset({event.kind for event in self.events} | set(drawn))

    @property
    def longest_delay_s(self) -> float:
        """The most by which any fault delays telemetry, seconds."""
        delays = [event.delay_s for event in self.events if event.kind == "telemetry_delayed"]
        if self.random.rate and "telemetry_delayed" in self.random.kinds:
            delays.append(self.random.delay_s)
        return max(delays, default=0.0)
