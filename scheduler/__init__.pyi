# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .candidates import Candidates
from .compilation import compiled
from .cost_terms import CostModel, CostTerms
from .dispatcher import Decision, Dispatcher
from .errors import InfeasibleError, PolicyError, RejectedError
from .oracle import NetworkSample, OracleError, StalenessStage, parse_document
from .policy import POLICIES, TELEMETRY_POLICIES, Policy, check_parameters, find_policy, new_policy, parameters_of
from .prefix_index import PrefixIndex
from .view import View

__all__ = [
    "POLICIES",
    "TELEMETRY_POLICIES",
    "Candidates",
    "CostModel",
    "CostTerms",
    "Decision",
    "Dispatcher",
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
    "new_policy",
    "parameters_of",
    "parse_document",
]
