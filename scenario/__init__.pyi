# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .background_load import BackgroundFlow, congestion_evidence, link_tiers, path_shares
from .congestion import CongestionSpec, plan_background
from .model import MODELS, ModelSpec
from .requests import Workload, load_requests, load_workload, part_of_trace
from .sections import OracleSpec, ServingSpec, SloSpec, WorkloadSpec
from .specification import Scenario

__all__ = [
    "MODELS",
    "BackgroundFlow",
    "CongestionSpec",
    "ModelSpec",
    "OracleSpec",
    "Scenario",
    "ServingSpec",
    "SloSpec",
    "Workload",
    "WorkloadSpec",
    "congestion_evidence",
    "link_tiers",
    "load_requests",
    "load_workload",
    "part_of_trace",
    "path_shares",
    "plan_background",
]
