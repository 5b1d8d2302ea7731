# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .background_load import BackgroundFlow, congestion_evidence, link_tiers, path_shares
from .congestion import CongestionSpec, plan_background
from .model import MODELS, ModelSpec
from .requests import load_requests
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
    "WorkloadSpec",
    "congestion_evidence",
    "link_tiers",
    "load_requests",
    "path_shares",
    "plan_background",
]
