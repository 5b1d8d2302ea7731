"""A scenario: everything that both worlds must agree on before they replay the same requests.

Owns the sections of a specification that are neither fabric nor world: workload, serving, oracle, congestion, policy,
seed. Quantities are in real-system units; how a world scales them is the world's business.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from scenario.background_load import BackgroundFlow
from scenario.congestion import CongestionSpec, PositiveSeconds, plan_background
from scenario.model import MODELS, ModelSpec
from topologies import Fabric, FabricSpec, Roles, build_fattree, place
from workloads import PROFILES, Profile, Request, WorkloadError, arrange, generate, read_trace

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
RequestCount = Annotated[int, Field(ge=1, le=1_000_000)]

DEFAULT_PROFILE = "conversation"

LONGEST_RUN_S = 1e7
"""Arrivals later than this (four months) are a mistaken unit, and would make the plan of background traffic endless."""


class Section(BaseModel):
    """A frozen part of a specification that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _profile_of(workload: Any) -> Profile | None:
    """The profile of a workload that may not be valid yet; the default one where it names none."""
    name = workload.get("profile", DEFAULT_PROFILE) if isinstance(workload, dict) else DEFAULT_PROFILE
    name = getattr(workload, "profile", name)
    return PROFILES.get(name) if isinstance(name, str) else None


class WorkloadSpec(Section):
    """Which requests arrive. With `trace`, a file in Mooncake's format; without, the generator's `profile`.

    `rate_rps`, where it is not given, is the profile's own. `sharing` replaces the profile's share of requests that go
    on from something earlier (None keeps it). `arrivals` None means `jitter` for a trace and `poisson` for the
    generator. `max_output_tokens` cuts long answers (None keeps them), `max_input_tokens` leaves longer requests out.
    """

    trace: Path | None = None
    profile: str = DEFAULT_PROFILE
    requests: RequestCount = 200
    first_request: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    rate_rps: Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)] = 3.4
    sharing: Annotated[float, Field(ge=0, le=1)] | None = None
    arrivals: Literal["raw", "jitter", "poisson"] | None = None
    speedup: Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)] = 1.0
    max_output_tokens: Count | None = None
    max_input_tokens: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _rate_of_the_profile(cls, given: Any) -> Any:
        profile = _profile_of(given)
        return {"rate_rps": profile.rate_rps, **given} if profile and isinstance(given, dict) else given

    @field_validator("profile")
    @classmethod
    def _known(cls, profile: str) -> str:
        if profile not in PROFILES:
            raise ValueError(f"{profile!r} is not one of {', '.join(PROFILES)}")
        return profile

    @property
    def arrival_mode(self) -> str:
        return self.arrivals or ("jitter" if self.trace else "poisson")


class ServingSpec(Section):
    """How the instances serve. `transfer`: move only what the decode instance lacks (`missing`) or everything (`full`).
    `connections`: each pair of instances keeps a connection for each of the `stripes` (`warm`), and so the paths that
    these hash to, as RDMA engines keep their queue pairs; or every transfer opens its own (`fresh`).

    `kv_memory_tokens` is the room for KV of running requests; `prefix_cache_tokens` the room for finished prefixes that
    a decode instance keeps. Defaults follow 4 x 80 GB with 140 GB of fp16 weights: about 165 GB of KV at 327,680 B a
    token is 500 k tokens, of which 100 k are set aside for prefixes (our choice).
    """

    placement: str = "segregated"
    transfer: Literal["missing", "full"] = "missing"
    stripes: Annotated[int, Field(ge=1, le=64)] = 4
    connections: Literal["persistent", "per_transfer"] = "persistent"
    batch_slots: Annotated[int, Field(ge=1, le=65_536)] = 64
    kv_memory_tokens: Count = 400_000
    prefix_cache_tokens: Annotated[int, Field(ge=0, le=1_000_000_000)] = 100_000


def _or_never(given: Any, finite: ValidatorFunctionWrapHandler) -> Any:
    return math.inf if given == "never" else finite(given)


RefreshInterval = Annotated[
    PositiveSeconds,
    WrapValidator(_or_never),
    PlainSerializer(lambda refresh_s: "never" if math.isinf(refresh_s) else refresh_s, when_used="json"),
]
"""Seconds, or `never`: infinitely many of them, written as the word."""


class OracleSpec(Section):
    """The scheduler's view: where it comes from and how old it may be, in real seconds.

    `poll_s`: how often the controller reads the counters. `refresh_s`: how often the scheduler takes a new snapshot;
    `never` is one at the start and then none. `load_refresh_s`: the same for the load of the decode instances (0:
    always current). `view`: congestion of each link of a path, or one mean for all links of a tier.

    What happens to a snapshot on its way: it is delivered `delay_s` late, lost with probability `loss`, multiplied link
    by link with lognormal `noise` of that sigma, and taken as it is (`smoothing: last`) or into an exponentially
    weighted average of the snapshots with time constant `smoothing_s` (`ewma`).
    """

    source: Literal["counters", "static", "exact"] = "counters"
    poll_s: Annotated[float, Field(ge=0.01, allow_inf_nan=False)] = 0.1
    refresh_s: RefreshInterval = 1.0
    load_refresh_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    delay_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 0.0
    loss: Annotated[float, Field(ge=0, le=1)] = 0.0
    noise: Annotated[float, Field(ge=0, le=5)] = 0.0
    smoothing: Literal["last", "ewma"] = "last"
    smoothing_s: PositiveSeconds = 1.0
    view: Literal["path", "tier"] = "path"


class SloSpec(Section):
    """The service-level objective of a request: first token within `ttft_s`, mean time per token within `tpot_s`.

    In a scenario what is not given is the profile's own; the defaults here are those of `conversation`.
    """

    ttft_s: PositiveSeconds = 5.0
    tpot_s: PositiveSeconds = 0.1


class Scenario(Section):
    """One run, whatever the world.

    `policy_parameters`: numbers by the name of a policy and of its parameter; only those of `policy` matter to a run.
    `policy_limit_s`: wall seconds that one decision of a user's own policy may take.
    """

    fabric: FabricSpec = FabricSpec()
    workload: WorkloadSpec = WorkloadSpec()
    model: ModelSpec = ModelSpec()
    serving: ServingSpec = ServingSpec()
    oracle: OracleSpec = OracleSpec()
    congestion: CongestionSpec = CongestionSpec()
    slo: SloSpec = SloSpec()
    policy: str = "netkv_full"
    policy_parameters: dict[str, dict[str, Annotated[float, Field(allow_inf_nan=False)]]] = {}
    policy_limit_s: PositiveSeconds = 5.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="before")
    @classmethod
    def _objective_of_the_profile(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        profile, slo = _profile_of(given.get("workload")), given.get("slo", {})
        if profile is None or not isinstance(slo, dict):
            return given
        return {**given, "slo": {"ttft_s": profile.ttft_s, "tpot_s": profile.tpot_s, **slo}}

    @field_validator("model", mode="before")
    @classmethod
    def _preset(cls, model: Any) -> Any:
        if isinstance(model, str):
            if model not in MODELS:
                raise ValueError(f"{model!r} is not one of {', '.join(MODELS)}")
            return MODELS[model]
        return model

    def rng(self, purpose: str) -> np.random.Generator:
        """A random stream for each purpose: all policies of a comparison see the same requests and traffic."""
        return np.random.default_rng([self.seed, *purpose.encode()])

    def build(self) -> tuple[Fabric, Roles]:
        """The fabric and the role of every instance. FabricError when either is impossible."""
        fabric = build_fattree(self.fabric)
        return fabric, place(fabric, self.serving.placement)

    def background(self, fabric: Fabric, roles: Roles, horizon_s: float) -> tuple[BackgroundFlow, ...]:
        return plan_background(self.congestion, fabric, roles, horizon_s, self.rng("congestion"))


def load_requests(scenario: Scenario) -> list[Request]:
    """The requests of a scenario in order of arrival, numbered from 0. WorkloadError when the trace cannot be read.

    As many as `workload.requests` asks for, or as the trace holds of those that fit `max_input_tokens`.
    """
    spec = scenario.workload
    last = spec.first_request + spec.requests
    wanted = _wanted_requests(scenario, last)
    found = wanted[spec.first_request : last]
    if not found:
        limit = "" if spec.max_input_tokens is None else f" of at most {spec.max_input_tokens} input tokens"
        raise WorkloadError(
            f"workload: {spec.trace or spec.profile} has {len(wanted)} requests{limit},"
            f" so there is none from number {spec.first_request} on"
        )
    rate_rps = spec.rate_rps if spec.trace is None else None
    arranged = arrange(found, spec.arrival_mode, spec.speedup, scenario.rng("arrivals"), rate_rps)
    end_s = arranged[-1].timestamp_s
    if end_s > LONGEST_RUN_S:
        raise WorkloadError(f"workload: the last request would arrive after {end_s:.3g} s (limit {LONGEST_RUN_S:g} s)")
    cut = spec.max_output_tokens
    if cut is None:
        return arranged
    return [replace(request, output_length=min(request.output_length, cut)) for request in arranged]


def _wanted_requests(scenario: Scenario, count: int) -> list[Request]:
    """At least the first `count` requests that are not too long, where there are so many."""
    spec = scenario.workload
    longest = spec.max_input_tokens
    if spec.trace is not None:
        found = read_trace(spec.trace, limit=count if longest is None else None)
        return found if longest is None else [request for request in found if request.input_length <= longest]
    for drawn in (count, 2 * count, 8 * count, 64 * count):
        found = generate(spec.profile, drawn, spec.rate_rps, scenario.rng("requests"), spec.sharing)
        found = found if longest is None else [request for request in found if request.input_length <= longest]
        if len(found) >= count:
            break
    return found
