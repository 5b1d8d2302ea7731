# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .background_load import BackgroundFlow, congestion_evidence, link_tiers, path_shares
from .congestion import CongestionSpec, plan_background
from .fault_plan import (
    DETECTION_S,
    Fault,
    FaultEdge,
    FaultState,
    Role,
    check_targets,
    fault_edges,
    instance_of,
    links_of,
    plan_faults,
    state_of,
    worker_of,
)
from .faults import (
    EMULATED_ONLY,
    FAULT_KINDS,
    NETWORK_FAULTS,
    TELEMETRY_FAULTS,
    FaultEvent,
    FaultKind,
    FaultsSpec,
    RandomFaults,
)
from .hardware import GPUS, Gpu
from .model import MODELS, SHAPES, ModelSpec, derived
from .model_shape import ModelShape
from .requests import Workload, load_requests, load_workload, part_of_trace
from .sections import TELEMETRY_PRESETS, OracleSpec, RetrySpec, ServingSpec, SloSpec, WorkloadSpec
from .specification import Scenario

__all__ = [
    "DETECTION_S",
    "EMULATED_ONLY",
    "FAULT_KINDS",
    "GPUS",
    "MODELS",
    "NETWORK_FAULTS",
    "SHAPES",
    "TELEMETRY_FAULTS",
    "TELEMETRY_PRESETS",
    "BackgroundFlow",
    "CongestionSpec",
    "Fault",
    "FaultEdge",
    "FaultEvent",
    "FaultKind",
    "FaultState",
    "FaultsSpec",
    "Gpu",
    "ModelShape",
    "ModelSpec",
    "OracleSpec",
    "RandomFaults",
    "RetrySpec",
    "Role",
    "Scenario",
    "ServingSpec",
    "SloSpec",
    "Workload",
    "WorkloadSpec",
    "check_targets",
    "congestion_evidence",
    "derived",
    "fault_edges",
    "instance_of",
    "link_tiers",
    "links_of",
    "load_requests",
    "load_workload",
    "part_of_trace",
    "path_shares",
    "plan_background",
    "plan_faults",
    "state_of",
    "worker_of",
]
