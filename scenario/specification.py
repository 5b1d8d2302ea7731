"""A scenario: everything that both worlds must agree on before they replay the same requests."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from pydantic import Field, ValidationInfo, field_validator, model_validator

from scenario.background_load import BackgroundFlow
from scenario.congestion import CongestionSpec, plan_background
from scenario.fault_plan import Fault, plan_faults, surges_of
from scenario.faults import WORKER_FAULTS, FaultsSpec
from scenario.model import MODELS, ModelSpec
from scenario.sections import OracleSpec, PositiveSeconds, Section, ServingSpec, SloSpec, WorkloadSpec, profile_of
from topologies import Fabric, FabricSpec, Roles, build_fattree, did_you_mean, place

BACKGROUND_TAIL_S = 60.0
"""The plan of background traffic continues this long after the last arrival, seconds of the real system."""

RAMP_S = 1.0
"""Background traffic has reached its rates after so long, seconds: greedy connections start slowly, and hundreds that
start together need new entries in the switches' tables."""

FiniteNumber = Annotated[float, Field(allow_inf_nan=False)]


class Scenario(Section):
    """One run, whatever the world."""

    fabric: FabricSpec = Field(FabricSpec(), description="The network: instances, switches and link rates.")
    workload: WorkloadSpec = Field(WorkloadSpec(), description="The requests and their arrival times.")
    model: ModelSpec = Field(
        ModelSpec(),
        description=f"The served model: its costs, or the name of a preset: {', '.join(MODELS)}; or both,"
        " as in `{preset: llama-3-8b, gpu: h200}`.",
    )
    serving: ServingSpec = Field(ServingSpec(), description="How prefill and decode instances serve.")
    oracle: OracleSpec = Field(OracleSpec(), description="The scheduler's telemetry.")
    congestion: CongestionSpec = Field(CongestionSpec(), description="The background traffic.")
    faults: FaultsSpec = Field(FaultsSpec(), description="What breaks during the run. Default: nothing.")
    slo: SloSpec = Field(SloSpec(), description="The service-level objective. Default: the profile's own.")
    policy: str = Field(
        "netkv_full",
        description="Name of the policy, of an entry point in the group netkv.policies, `module:Class`, or the URL of a"
        " router behind HTTP.",
    )
    policy_parameters: dict[str, dict[str, FiniteNumber]] = Field(
        {},
        description="Finite numbers by name of the policy and name of its parameter; a run uses those of `policy`.",
    )
    policy_limit_s: PositiveSeconds = Field(
        5.0, description="Longest decision of a user's own policy, wall time, s, above 0."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of all random streams, 0 to 4,294,967,295.")

    @model_validator(mode="before")
    @classmethod
    def _objective_of_the_profile(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        profile, slo = profile_of(given.get("workload")), given.get("slo", {})
        if profile is None or not isinstance(slo, dict):
            return given
        return {**given, "slo": {"ttft_s": profile.ttft_s, "tpot_s": profile.tpot_s, **slo}}

    @model_validator(mode="after")
    def _overlap_without_second_attempts(self) -> Scenario:
        if self.serving.overlap and (self.serving.retry.attempts > 1 or self.faults.kinds & WORKER_FAULTS):
            raise ValueError(
                "serving.overlap: a transfer that begins during its prefill is not tried again: leave out serving.retry"
                f" and the faults {', '.join(sorted(WORKER_FAULTS))}, or set serving.overlap to 0"
            )
        return self

    @field_validator("model", mode="before")
    @classmethod
    def _preset(cls, model: Any) -> Any:
        preset = model.get("preset") if isinstance(model, dict) else model
        if not isinstance(preset, str):
            return model
        if preset not in MODELS:
            raise ValueError(f"{preset!r} is not one of {', '.join(MODELS)}{did_you_mean(preset, MODELS)}")
        if isinstance(model, str):
            return MODELS[model]
        of_it = MODELS[preset].model_dump(exclude_unset=True, exclude={"step_table_s"})
        return {**of_it, **{name: value for name, value in model.items() if name != "preset"}}

    @field_validator("model")
    @classmethod
    def _on_these_gpus(cls, model: ModelSpec, known: ValidationInfo) -> ModelSpec:
        fabric = known.data.get("fabric")
        return model if fabric is None else model.on(fabric.gpus_per_instance)

    def rng(self, purpose: str) -> np.random.Generator:
        """A random stream for each purpose: all policies of a comparison get the same requests and traffic."""
        return np.random.default_rng([self.seed, *purpose.encode()])

    def build(self) -> tuple[Fabric, Roles]:
        """The fabric and the role of every instance. FabricError when either is impossible."""
        fabric = build_fattree(self.fabric)
        return fabric, place(fabric, self.serving.placement)

    @property
    def lead_s(self) -> float:
        """How long before t = 0 background traffic and telemetry begin, seconds of the real system.

        A refresh interval, so that the first request meets a snapshot of any age that later ones meet; the delay of its
        delivery; and the time that the traffic takes to come up to its rates and into a poll, or that two polls take.
        """
        oracle = self.oracle
        interval_s = oracle.refresh_s if oracle.source != "static" and math.isfinite(oracle.refresh_s) else 0.0
        return interval_s + oracle.delay_s + max(RAMP_S, oracle.poll_s) + oracle.poll_s

    @property
    def first_snapshot_s(self) -> float:
        """When the scheduler takes its first telemetry snapshot, seconds from t = 0.

        It arrives at most a refresh interval before t = 0: at a part of it that the seed decides, the same for every
        interval. One that is never refreshed arrives at t = 0.
        """
        interval_s = self.oracle.refresh_s if math.isfinite(self.oracle.refresh_s) else 0.0
        return -float(self.rng("refresh").uniform()) * interval_s - self.oracle.delay_s

    def background(self, fabric: Fabric, roles: Roles, last_arrival_s: float) -> tuple[BackgroundFlow, ...]:
        """The background flows from `lead_s` before t = 0 to some time after the last arrival: those of the congestion
        (`plan_background`), then those of faults (`surges_of`)."""
        to_s = last_arrival_s + BACKGROUND_TAIL_S
        flows = plan_background(self.congestion, fabric, roles, -self.lead_s, to_s, self.rng("congestion"))
        if "background_surge" not in self.faults.kinds:
            return flows
        plan = self.fault_plan(fabric, roles, last_arrival_s)
        return (*flows, *surges_of(plan, fabric, len(flows), -self.lead_s, to_s))

    def fault_plan(self, fabric: Fabric, roles: Roles, last_arrival_s: float) -> tuple[Fault, ...]:
        """The faults of the run (`plan_faults`); random ones begin before the last arrival."""
        seed = self.faults.random.seed
        rng = self.rng("faults") if seed is None else np.random.default_rng([seed, *b"faults"])
        return plan_faults(self.faults, fabric, roles, last_arrival_s, rng)
