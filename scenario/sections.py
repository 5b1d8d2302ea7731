"""The parts of a scenario that are neither fabric, model nor background traffic: workload, serving, oracle, objective.

Quantities are in real-system units; how a world scales them is the world's business.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

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

from topologies import did_you_mean
from workloads import PROFILES, Profile

DEFAULT_PROFILE = "conversation"

MOONCAKE_LANES = 16
"""Most TCP connections to a peer that Mooncake's engine accepts (kMaxTcpLanesPerPeer, tcp_transport.cpp)."""

PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A frozen part of a specification that refuses unknown fields. Every field has a description."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def profile_of(workload: Any) -> Profile | None:
    """The profile of a workload, a WorkloadSpec or fields not validated yet; None where it names an unknown one."""
    name = workload.get("profile", DEFAULT_PROFILE) if isinstance(workload, dict) else DEFAULT_PROFILE
    name = getattr(workload, "profile", name)
    return PROFILES.get(name) if isinstance(name, str) else None


class WorkloadSpec(Section):
    """Which requests arrive, and when."""

    trace: Path | None = Field(
        None,
        description="File of requests in a format of docs/how-to/trace.md (Mooncake, Qwen-Bailian, Azure, BurstGPT,"
        " ...), plain, gzip, zstd or Parquet. None: `profile` generates them.",
    )
    time_unit: Literal["s", "ms", "us", "ns"] | None = Field(
        None,
        description="Unit of the trace's time stamps. None: that of its format (Mooncake: ms), or another where their"
        " rate or a date proves it.",
    )
    block_tokens: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Tokens of a block that has one of the trace's `hash_ids`, 1 to 1,000,000. None: those of its"
        " format (Mooncake: 512), or others where the ids prove it.",
    )
    profile: str = Field(
        DEFAULT_PROFILE,
        description="Profile of the generated requests, also of the objective (`slo`) and of the default rate:"
        f" {', '.join(PROFILES)}.",
    )
    requests: int = Field(200, ge=1, le=1_000_000, description="Number of requests of a run, 1 to 1,000,000.")
    first_request: int = Field(
        0, ge=0, le=1_000_000, description="Requests of the trace or generator to leave out first, 0 to 1,000,000."
    )
    warm_requests: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Of those left out, so many that come last fill the prefix caches before t = 0, 0 to 1,000,000: the"
        " run's own policy places them in the fluid model of the same fabric, without background traffic, and no byte"
        " of theirs moves in the run. 0: all caches are empty at t = 0.",
    )
    rate_rps: float = Field(
        3.4,
        ge=1e-6,
        le=1e6,
        allow_inf_nan=False,
        description="Mean arrival rate of generated requests, requests/s, 1e-6 to 1e6. Default: the profile's own"
        " (3.4 for conversation).",
    )
    sharing: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of generated requests that continue earlier ones and share their prefix, 0 to 1. None: the"
        " profile's own.",
    )
    mean_input_tokens: float | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Mean prompt of generated requests, tokens, 1 to 1e6; lengths are log-normal. None: the profile's"
        " own lengths.",
    )
    input_spread: float = Field(
        0.9,
        ge=0,
        le=3,
        description="Sigma of the log-normal lengths of `mean_input_tokens`, 0 to 3. 0: every prompt is as long as the"
        " mean; 0.9: the longest in a hundred are five times the mean.",
    )
    arrivals: Literal["raw", "jitter", "poisson"] | None = Field(
        None,
        description="Arrival times. `raw`: the trace's time stamps. `jitter`: each stamp plus a uniform time within the"
        " grid that the stamps lie on, if they do. `poisson`: exponential gaps. None: `jitter` with a trace, `poisson`"
        " without.",
    )
    speedup: float = Field(
        1.0, ge=1e-6, le=1e6, allow_inf_nan=False, description="Factor on the arrival rate, 1e-6 to 1e6."
    )
    max_output_tokens: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="Longest answer, tokens, 1 to 1e9: longer ones are cut. None: no limit.",
    )
    max_input_tokens: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="Longest prompt, tokens, 1 to 1e9: requests with longer ones are left out. None: no limit.",
    )

    @model_validator(mode="before")
    @classmethod
    def _rate_of_the_profile(cls, given: Any) -> Any:
        profile = profile_of(given)
        return {"rate_rps": profile.rate_rps, **given} if profile and isinstance(given, dict) else given

    @model_validator(mode="after")
    def _warm_requests_were_left_out(self) -> WorkloadSpec:
        if self.warm_requests > self.first_request:
            raise ValueError(
                f"warm_requests: {self.warm_requests} requests are not there before number {self.first_request}: set"
                f" first_request to {self.warm_requests} or more"
            )
        return self

    @field_validator("profile")
    @classmethod
    def _known(cls, profile: str) -> str:
        if profile not in PROFILES:
            raise ValueError(f"{profile!r} is not one of {', '.join(PROFILES)}{did_you_mean(profile, PROFILES)}")
        return profile

    @property
    def arrival_mode(self) -> str:
        """`arrivals`, or the default for this source of requests."""
        return self.arrivals or ("jitter" if self.trace else "poisson")


def _or_never(given: Any, finite: ValidatorFunctionWrapHandler) -> Any:
    return math.inf if given == "never" else finite(given)


_NEVER = PlainSerializer(lambda seconds: "never" if math.isinf(seconds) else seconds, when_used="json")


class RetrySpec(Section):
    """When an attempt to serve a request is over, and how many there are."""

    attempts: int = Field(
        1,
        ge=1,
        le=10,
        description="Times that a request is tried, 1 to 10: another selection, after another prefill where the KV is"
        " lost. After the last one it fails.",
    )
    timeout_s: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False), WrapValidator(_or_never), _NEVER] = Field(
        math.inf,
        description="An attempt is over when nothing has been heard of it for as long, beyond the time that its prefill"
        " or its answer takes, s, above 0, at most 3600. `never`: at the run's deadline.",
    )
    exclude_failed: bool = Field(
        True, description="Whether instances at which it failed are chosen again only where no other can be."
    )

    @model_validator(mode="before")
    @classmethod
    def _once_more(cls, given: Any) -> Any:
        return {"attempts": 2 if given else 1} if isinstance(given, bool) else given


class ServingSpec(Section):
    """How the instances serve.

    Default memory: an instance of 4 x 80 GB with 140 GB of fp16 weights has about 165 GB for KV, which at 327,680 B a
    token is 500 k tokens; 100 k of them are set aside for prefixes (our choice).
    """

    placement: str = Field(
        "segregated",
        description="Which instances prefill and which decode. `segregated`: servers of a rack take turns."
        " `colocated`: instances of a server take turns. `racks`: racks of a pod take turns. `first_rack`: the first"
        " rack prefills, all others decode.",
    )
    prefill: Literal["queue", "at_once"] = Field(
        "queue",
        description="`queue`: a prefill instance takes one prompt at a time, first come first served. `at_once`: it"
        " starts every prompt when it arrives, so that prefill never queues.",
    )
    transfer: Literal["missing", "full"] = Field(
        "missing",
        description="KV to transfer. `missing`: of tokens that the decode instance has not cached. `full`: of the whole"
        " prompt.",
    )
    overlap: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of a KV transfer that may leave before the prefill ends, layer by layer, 0 to below 1;"
        " (layers - 1) / layers is all but the last layer. Above 0 the decode instance is chosen when the prefill"
        " starts.",
    )
    engine: Literal["sockets", "mooncake"] = Field(
        "sockets",
        description="What moves KV in the emulated world. `sockets`: our own code. `mooncake`: Mooncake's transfer"
        " engine over TCP, an extra (`pip install 'netkv-testbed[engines]'`). The analytic world has no engine: it"
        " shares links among `stripes` connections in either case.",
    )
    stripes: int = Field(
        4, ge=1, le=64, description="TCP connections of one KV transfer, 1 to 64; with engine=mooncake at most 16."
    )
    connections: Literal["persistent", "per_transfer"] = Field(
        "persistent",
        description="`persistent`: a pair of instances keeps its connections, and with them their paths, as RDMA"
        " engines keep their queue pairs. `per_transfer`: every transfer opens its own.",
    )
    batch_slots: int = Field(64, ge=1, le=65_536, description="Most requests in a decode batch, 1 to 65,536.")
    kv_memory_tokens: int = Field(
        400_000,
        ge=1,
        le=1_000_000_000,
        description="KV memory of a decode instance for admitted requests, tokens, 1 to 1e9.",
    )
    kv_admission: Literal["before_transfer", "after_transfer"] = Field(
        "before_transfer",
        description="When a request takes KV memory of its decode instance. `before_transfer`: the transfer waits until"
        " it is free, as with vLLM's KV connectors, and then the request holds it until its last token."
        " `after_transfer`: with its place in the batch; KV that has arrived waits elsewhere, as in host memory, where"
        " there is no limit.",
    )
    retry: RetrySpec = Field(
        RetrySpec(),
        description="What becomes of a request that is lost with its instance or transfer, or of which nothing is"
        " heard. `true`: two attempts.",
    )
    prefix_cache_tokens: int = Field(
        100_000,
        ge=0,
        le=1_000_000_000,
        description="KV memory of a decode instance for prefixes of finished requests, tokens, 0 to 1e9.",
    )

    @model_validator(mode="after")
    def _what_mooncake_cannot(self) -> ServingSpec:
        if self.engine == "mooncake" and self.connections != "persistent":
            raise ValueError(
                f"connections: {self.connections}: Mooncake's engine keeps its connections: leave it out, or set"
                " engine=sockets"
            )
        if self.engine == "mooncake" and self.stripes > MOONCAKE_LANES:
            raise ValueError(
                f"stripes: {self.stripes}: Mooncake's engine opens at most {MOONCAKE_LANES} connections to a peer: set"
                " fewer, or engine=sockets"
            )
        if self.engine == "mooncake" and self.overlap:
            raise ValueError(
                f"overlap: {self.overlap:g}: Mooncake's engine sends what is whole: leave it out, or set engine=sockets"
            )
        return self


RefreshInterval = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False), WrapValidator(_or_never), _NEVER]
"""Seconds, or infinity, which is written as `never`."""


TELEMETRY_PRESETS: dict[str, dict[str, float]] = {
    # SONiC, sonic-swss orchagent/portsorch.cpp: PORT_FLEX_STAT_COUNTER_POLL_MSECS "1000".
    "sonic_counters": {"poll_s": 1.0, "refresh_s": 1.0},
    # The same file: QUEUE_FLEX_STAT_COUNTER_POLL_MSECS "10000".
    "sonic_queues": {"poll_s": 10.0, "refresh_s": 1.0},
    # Net-SNMP reads interface counters anew after 15 s (IFTABLE_CACHE_TIMEOUT); twice that is our choice.
    "snmp": {"poll_s": 30.0, "refresh_s": 1.0},
    # gNMI SAMPLE at the shortest interval that SONiC's server takes (MinSampleInterval, 1 s), pushed when it is there.
    "gnmi": {"poll_s": 1.0, "refresh_s": 0.1},
    # P4.org's INT reports with the packets; the shortest interval that `poll_s` can have stands for that (our choice).
    "in_band": {"poll_s": 0.01, "refresh_s": 0.01},
}
"""`poll_s` and `refresh_s` by the kind of telemetry that the operator has (docs/reference/telemetry-presets.md).
A scheduler that reads what others have polled looks every second, as our default does."""


class OracleSpec(Section):
    """The scheduler's telemetry: its source, its age and its errors, in real seconds.

    A snapshot on its way to the scheduler is changed in this order: `noise`, `smoothing`, `loss`, `delay_s`.
    """

    preset: Literal["sonic_counters", "sonic_queues", "snmp", "gnmi", "in_band"] | None = Field(
        None,
        description="Kind of telemetry that the operator has; it decides `poll_s` and `refresh_s` where they are not"
        " given. None: their own defaults.",
    )
    source: Literal["counters", "static", "exact"] = Field(
        "counters",
        description="`counters`: port counters, polled. `static`: no telemetry, nominal bandwidths only. `exact`: the"
        " rates at the very instant (analytic world only).",
    )
    poll_s: float = Field(
        0.1, ge=0.01, allow_inf_nan=False, description="Interval between two polls of the counters, s, at least 0.01."
    )
    refresh_s: RefreshInterval = Field(
        1.0,
        description="Interval between two snapshots taken by the scheduler, s, above 0, at most 3600; a run begins one"
        " such interval before its first request. `never`: one snapshot at t = 0 and no other.",
    )
    most_age_s: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False), WrapValidator(_or_never), _NEVER] = Field(
        math.inf,
        description="A snapshot that is older is not used, s, above 0, at most 3600: who reads telemetry decides by"
        " nominal bandwidths then, and the decision says so. `never`: any is used.",
    )
    load_refresh_s: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="Interval between two updates of the load of decode instances, s, at least 0. 0: always current.",
    )
    delay_s: float = Field(0.0, ge=0, le=3600, allow_inf_nan=False, description="Delivery delay, s, 0 to 3600.")
    loss: float = Field(0.0, ge=0, le=1, description="Probability that a snapshot is lost, 0 to 1.")
    noise: float = Field(
        0.0,
        ge=0,
        le=5,
        description="Sigma of the lognormal factor (median 1) on each link's utilisation, 0 to 5. 0: none.",
    )
    smoothing: Literal["last", "ewma"] = Field(
        "last",
        description="`last`: the latest snapshot as it is. `ewma`: an exponentially weighted average of all snapshots.",
    )
    smoothing_s: PositiveSeconds = Field(1.0, description="Time constant of smoothing=ewma, s, above 0.")
    view: Literal["path", "tier"] = Field(
        "path", description="`path`: the utilisation of each link. `tier`: one mean for all links of a tier."
    )

    @model_validator(mode="before")
    @classmethod
    def _intervals_of_the_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(name := given.get("preset"), str):
            return given
        return {**TELEMETRY_PRESETS.get(name, {}), **given}


class SloSpec(Section):
    """The service-level objective of a request. In a scenario the defaults are those of the workload's profile."""

    ttft_s: PositiveSeconds = Field(
        5.0, description="Longest time to first token, s, above 0. Default: the profile's own (conversation: 5.0)."
    )
    tpot_s: PositiveSeconds = Field(
        0.1,
        description="Longest mean time per output token, s, above 0. Default: the profile's own (conversation: 0.1).",
    )
