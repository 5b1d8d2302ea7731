# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .candidates import Candidates
from .compilation import compiled, load_compiler
from .cost_terms import CostModel, CostTerms
from .dispatcher import Decision, Dispatcher
from .errors import InfeasibleError, PolicyError, RejectedError
from .hooks import HOOKS
from .http_router import Dial, HttpRouter
from .oracle import NetworkSample, OracleError, StalenessStage, parse_document
from .policy import (
    POLICIES,
    ROUTERS,
    TELEMETRY_POLICIES,
    Policy,
    check_parameters,
    find_policy,
    new_policy,
    own_source,
    parameters_of,
    policy_of,
    reads_telemetry,
)
from .prefix_index import PrefixIndex
from .router_url import is_router_url, parse_router_url
from .time_limit import time_limit
from .view import View

__all__ = [
    "HOOKS",
    "POLICIES",
    "ROUTERS",
    "TELEMETRY_POLICIES",
    "Candidates",
    "CostModel",
    "CostTerms",
    "Decision",
    "Dial",
    "Dispatcher",
    "HttpRouter",
    "InfeasibleError",
    "NetworkSample",
    "OracleError",
    "Policy",
    "PolicyError",
    "PrefixIndex",
    "RejectedError",
    "StalenessStage",
    "View",
    "check_parameters",
    "compiled",
    "find_policy",
    "is_router_url",
    "load_compiler",
    "new_policy",
    "own_source",
    "parameters_of",
    "parse_document",
    "parse_router_url",
    "policy_of",
    "reads_telemetry",
    "time_limit",
]
