"""The decision: policy contract, cost model, oracle, prefix index and the policies. No Mininet, no Ryu, no clock."""

from scheduler.candidates import Candidates
from scheduler.dispatcher import Decision, Dispatcher
from scheduler.errors import InfeasibleError, PolicyError, RejectedError
from scheduler.oracle import NetworkSample, OracleError, StalenessStage, parse_document
from scheduler.policy import POLICIES, Policy, find_policy
from scheduler.prefill_queue import PrefillQueues
from scheduler.record import Outcome, RequestRecord
from scheduler.view import View

__all__ = [
    "POLICIES",
    "Candidates",
    "Decision",
    "Dispatcher",
    "InfeasibleError",
    "NetworkSample",
    "OracleError",
    "Outcome",
    "Policy",
    "PolicyError",
    "PrefillQueues",
    "RejectedError",
    "RequestRecord",
    "StalenessStage",
    "View",
    "find_policy",
    "parse_document",
]
