"""The policy contract, and how a policy is found by its name.

A policy is an object with `select(request, candidates, view) -> decode_id`. It reads the candidates and the view and
changes neither; its own state (a counter, a random stream) is its own. Both worlds call it in the same way.
"""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Protocol, runtime_checkable

import numpy as np

from scheduler.candidates import Candidates
from scheduler.policies.cla import CacheLoadAware
from scheduler.policies.least_loaded import LeastLoaded
from scheduler.policies.netkv_full import NetKVFull
from scheduler.policies.netkv_static import NetKVStatic
from scheduler.policies.netkv_topo_only import NetKVTopoOnly
from scheduler.policies.random_choice import RandomChoice
from scheduler.policies.round_robin import RoundRobin
from scheduler.view import View
from workloads import Request

ENTRY_POINT_GROUP = "netkv.policies"


class PolicyError(ValueError):
    """A policy that cannot be found or that broke its contract; the message names it."""


@runtime_checkable
class Policy(Protocol):
    """Choose the decode instance of one request."""

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        """The `decode_id` of a feasible candidate. At least one candidate is feasible."""
        ...


POLICIES: dict[str, Callable[[], Policy]] = {
    "round_robin": RoundRobin,
    "random": RandomChoice,
    "least_loaded": LeastLoaded,
    "cla": CacheLoadAware,
    "netkv_topo_only": NetKVTopoOnly,
    "netkv_static": NetKVStatic,
    "netkv_full": NetKVFull,
}


def find_policy(name: str) -> Callable[[], Policy]:
    """The factory of a policy: ours by name, a user's own by entry point or as `module:Class`. PolicyError if none."""
    if name in POLICIES:
        return POLICIES[name]
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == name:
            return _checked(name, _loaded(name, entry.load))
    if ":" in name:
        return _checked(name, _loaded(name, lambda: _imported(name)))
    raise PolicyError(f"policy: {name!r} is not one of {', '.join(POLICIES)} (or your own as module:Class)")


def new_policy(name: str) -> Policy:
    """A policy object of that name for one run. PolicyError when there is none or its class cannot be called."""
    factory = find_policy(name)
    try:
        return factory()
    except Exception as problem:  # a user's code may raise anything
        raise PolicyError(f"policy: {name}: cannot be made: {_said(problem)}") from problem


def _imported(name: str) -> object:
    module_name, _, attribute = name.partition(":")
    if module_name.startswith(".") or not module_name or not attribute:
        raise PolicyError(f"policy: {name}: module:Class was expected")
    module = importlib.import_module(module_name)
    if not hasattr(module, attribute):
        raise PolicyError(f"policy: {name}: module {module_name} has no {attribute}")
    return getattr(module, attribute)


def _loaded(name: str, load: Callable[[], object]) -> object:
    try:
        return load()
    except PolicyError:
        raise
    except Exception as problem:  # importing a user's code may raise anything
        raise PolicyError(f"policy: {name}: cannot be imported: {_said(problem)}") from problem


def _said(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}"


def _checked(name: str, found: object) -> Callable[[], Policy]:
    if not callable(found) or not callable(getattr(found, "select", None)):
        raise PolicyError(f"policy: {name}: not a class with a select method")
    return found


def choose(policy: Policy, name: str, request: Request, candidates: Candidates, view: View) -> int:
    """Ask the policy and hold its answer against the contract.

    Raises PolicyError naming the policy when it raises, or returns what is not a feasible candidate.
    """
    try:
        decode_id = policy.select(request, candidates, view)
    except Exception as problem:  # a user's code may raise anything
        raise PolicyError(f"policy {name} failed on request {request.request_id}: {_said(problem)}") from problem
    try:
        chosen = operator.index(decode_id)
    except TypeError:
        raise _broken(name, request, decode_id, "a decode instance's number was expected") from None
    at = np.flatnonzero(candidates.decode_id == chosen)
    if not len(at):
        raise _broken(name, request, decode_id, "no such decode instance")
    if not candidates.feasible[at[0]]:
        raise _broken(name, request, decode_id, "it can never hold it")
    return chosen


def _broken(name: str, request: Request, decode_id: object, reason: str) -> PolicyError:
    return PolicyError(f"policy {name} chose {decode_id!r} for request {request.request_id}: {reason}")
