"""A request: what it asks, when it arrives, what it costs to serve, and the scenario in which a world replays it."""

from workloads.arrivals import ARRIVALS
from workloads.background_load import BackgroundFlow
from workloads.congestion import BACKGROUND_TAIL_S, CongestionSpec, plan_background
from workloads.generator import generate
from workloads.model import MODELS, ModelSpec
from workloads.mooncake import read_trace
from workloads.profiles import PROFILES
from workloads.request import BLOCK_TOKENS, Request, WorkloadError
from workloads.scenario import OracleSpec, Scenario, ServingSpec, WorkloadSpec, load_requests

__all__ = [
    "ARRIVALS",
    "BACKGROUND_TAIL_S",
    "BLOCK_TOKENS",
    "MODELS",
    "PROFILES",
    "BackgroundFlow",
    "CongestionSpec",
    "ModelSpec",
    "OracleSpec",
    "Request",
    "Scenario",
    "ServingSpec",
    "WorkloadError",
    "WorkloadSpec",
    "generate",
    "load_requests",
    "plan_background",
    "read_trace",
]
