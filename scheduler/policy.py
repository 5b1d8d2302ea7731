"""The policy contract, and how a policy is found by its name.

A policy is an object with `select(request, candidates, view) -> decode_id`. It reads the candidates and the view and
changes neither; its own state (a counter, a random stream) is its own. It may turn a request away by raising
RejectedError with the reason, and have a `reason`, the text why it chose as it last did. Its parameters are the numbers
that its class takes by name. It may have hooks, by which it is told what becomes of its requests (`scheduler.hooks`).
One whose runs do not repeat to the byte says why in an attribute `unrepeatable`. Both worlds call it in the same way.
"""

from __future__ import annotations

import importlib
import inspect
import operator
import os
import socket
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from scenario import Scenario
from scheduler.candidates import Candidates
from scheduler.errors import PolicyError, RejectedError
from scheduler.http_router import DEFAULT_LIMIT_S, Dial, HttpRouter
from scheduler.policies.aibrix_decode import AibrixDecode
from scheduler.policies.ca import CacheAware
from scheduler.policies.cla import CacheLoadAware
from scheduler.policies.cla_star import CacheLoadAwareTuned
from scheduler.policies.conductor import Conductor
from scheduler.policies.dynamo_decode import DynamoDecode
from scheduler.policies.dynamo_qos import DynamoQos
from scheduler.policies.least_loaded import LeastLoaded
from scheduler.policies.llmd_default import LlmdDefault
from scheduler.policies.llmd_topology import LlmdTopology
from scheduler.policies.netkv_fresh import NetKVFresh
from scheduler.policies.netkv_full import NetKVFull
from scheduler.policies.netkv_static import NetKVStatic
from scheduler.policies.netkv_topo_only import NetKVTopoOnly
from scheduler.policies.paper_full import PaperFull
from scheduler.policies.paper_self_contention import PaperSelfContention
from scheduler.policies.paper_static import PaperStatic
from scheduler.policies.power_of_two import PowerOfTwo
from scheduler.policies.random_choice import RandomChoice
from scheduler.policies.round_robin import RoundRobin
from scheduler.policies.sglang_cache_aware import SglangCacheAware
from scheduler.policies.vllm_dp import VllmDataParallel
from scheduler.router_url import is_router_url, parse_router_url
from scheduler.time_limit import TimeLimitPassed, time_limit
from scheduler.view import View
from topologies import did_you_mean
from workloads import Request

PROJECT = str(Path(__file__).parents[1])
"""The folder that holds our packages."""

ENTRY_POINT_GROUP = "netkv.policies"

TELEMETRY_POLICIES = frozenset({"netkv_full", "netkv_fresh", "paper_full", "dynamo_router_netkv"})
"""Policies of ours that read the network sample: only for them a sweep varies how old it is."""


@runtime_checkable
class Policy(Protocol):
    """Choose the decode instance of one request."""

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        """The `decode_id` of a feasible candidate (at least one is), or RejectedError to turn the request away."""
        ...


POLICIES: dict[str, Callable[[], Policy]] = {
    "round_robin": RoundRobin,
    "random": RandomChoice,
    "least_loaded": LeastLoaded,
    "vllm_dp": VllmDataParallel,
    "power_of_two": PowerOfTwo,
    "ca": CacheAware,
    "cla": CacheLoadAware,
    "cla_star": CacheLoadAwareTuned,
    "llmd_default": LlmdDefault,
    "llmd_topology": LlmdTopology,
    "sglang_cache_aware": SglangCacheAware,
    "dynamo_decode": DynamoDecode,
    "dynamo_qos": DynamoQos,
    "aibrix_decode": AibrixDecode,
    "conductor": Conductor,
    "netkv_topo_only": NetKVTopoOnly,
    "netkv_static": NetKVStatic,
    "netkv_full": NetKVFull,
    "netkv_fresh": NetKVFresh,
    "paper_static": PaperStatic,
    "paper_self_contention": PaperSelfContention,
    "paper_full": PaperFull,
}


ROUTERS = {
    "dynamo_router": "routers:DynamoRouter",
    "dynamo_router_topology": "routers:DynamoRouterTopology",
    "dynamo_router_netkv": "routers:DynamoRouterNetkv",
}
"""Other people's routers, which `make routers` installs, and the policies that ask them: `require()` of each is a
PolicyError where its router is not installed."""


def find_policy(name: str) -> Callable[[], Policy]:
    """The factory of a policy: ours by name, a router by its URL, a user's own by entry point or as `module:Class`.

    PolicyError if there is none of that name.
    """
    if name in POLICIES:
        return POLICIES[name]
    if is_router_url(name):
        url = parse_router_url(name)
        return lambda: HttpRouter(url)
    if name in ROUTERS:
        return _checked(name, _loaded(name, lambda: _installed(ROUTERS[name])))
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == name:
            return _checked(name, _loaded(name, entry.load))
    if ":" in name:
        return _checked(name, _loaded(name, lambda: _imported(name)))
    meant = did_you_mean(name, [*POLICIES, *ROUTERS])
    known = "ours" if meant else ", ".join([*POLICIES, *ROUTERS])  # a line that can be read
    raise PolicyError(f"policy: {name!r} is not one of {known}, your own as module:Class, or a router's URL{meant}")


def policy_of(scenario: Scenario, dial: Dial = socket.create_connection) -> Policy:
    """The policy object of a run of the scenario. `dial` opens the connections to a router. As `new_policy`."""
    parameters = scenario.policy_parameters.get(scenario.policy)
    return new_policy(scenario.policy, parameters, limit_s=scenario.policy_limit_s, dial=dial)


def new_policy(
    name: str,
    parameters: Mapping[str, float] | None = None,
    *,
    limit_s: float = DEFAULT_LIMIT_S,
    dial: Dial = socket.create_connection,
) -> Policy:
    """A policy object of that name for one run. PolicyError when there is none, or not with these parameters.

    A router at a URL is connected to, by `dial` where that is not a Unix socket; each of its decisions may take
    `limit_s` seconds.
    """
    given = dict(parameters or {})
    check_parameters(name, given)
    if is_router_url(name):
        return HttpRouter(parse_router_url(name), limit_s, dial)
    try:
        return find_policy(name)(**given)
    except PolicyError:
        raise
    except Exception as problem:  # a user's code may raise anything
        raise PolicyError(f"policy: {name}: cannot be made: {_said(problem)}") from problem


def reads_telemetry(name: str) -> bool:
    """Whether the age of the telemetry snapshot can matter to a policy.

    A user's own may read it unless its class says otherwise (`says_it_reads_none`), or cannot be found here.
    """
    if is_router_url(name):
        return parse_router_url(name).snapshot
    if name in POLICIES or name in ROUTERS:
        return name in TELEMETRY_POLICIES
    try:
        return not says_it_reads_none(find_policy(name))
    except PolicyError:
        return True


def says_it_reads_none(policy: object) -> bool:
    """Whether a policy, or its class, has `reads_telemetry = False`."""
    return getattr(policy, "reads_telemetry", True) is False


def own_source(name: str) -> Path | None:
    """The file that the class of a user's own policy is in; None for ours, a router, and compiled code."""
    if name in POLICIES or name in ROUTERS or is_router_url(name):
        return None
    factory: Any = find_policy(name)
    try:
        found = inspect.getsourcefile(factory)
    except TypeError:
        return None
    return None if found is None else Path(found)


def parameters_of(name: str) -> dict[str, float | None]:
    """The parameters that a policy takes by name, and their defaults (None: it has none). PolicyError if no policy."""
    factory = find_policy(name)
    try:
        found = inspect.signature(factory).parameters.values()
    except ValueError:  # a class of compiled code may not tell
        return {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {one.name: None if one.default is one.empty else one.default for one in found if one.kind in named}


def check_parameters(name: str, parameters: Mapping[str, float]) -> None:
    """PolicyError when the policy does not exist or takes no parameter of one of these names."""
    known = parameters_of(name)
    for parameter in parameters:
        if parameter not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            meant = did_you_mean(parameter, known)
            raise PolicyError(f"policy_parameters: {name}: no parameter {parameter!r} ({has}){meant}")


def _imported(name: str) -> object:
    module_name, _, attribute = name.partition(":")
    if module_name.startswith(".") or not module_name or not attribute:
        raise PolicyError(f"policy: {name}: module:Class was expected")
    if module_name.endswith(".py") or "/" in module_name:
        file = Path(module_name)
        where = "" if file.parent == Path() else f", typed in folder {file.parent}"
        raise PolicyError(f"policy: {name}: a file; its module is {file.stem}:{attribute}{where}")
    look_in_the_current_directory()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as problem:
        if problem.name != module_name:
            raise
        meant = did_you_mean(module_name, (place.stem for place in Path.cwd().glob("*.py")))
        where = f"looked for in {os.getcwd()} and on PYTHONPATH"
        raise PolicyError(f"policy: {name}: cannot be imported: no module {module_name}, {where}{meant}") from None
    if not hasattr(module, attribute):
        raise PolicyError(
            f"policy: {name}: module {module_name} has no {attribute}{did_you_mean(attribute, vars(module))}"
        )
    return getattr(module, attribute)


def _installed(name: str) -> object:
    """The class of a router of others. PolicyError when what it asks is not installed."""
    router: Any = _imported(name)
    router.require()
    return router


def look_in_the_current_directory() -> None:
    """Let what the current directory holds be imported: a user's own policy, and what it imports.

    The directory comes last, and after the folder of our own packages: a folder in it that has the name of one of ours
    is never taken for ours, however this project was installed. FileNotFoundError when the directory is gone.
    """
    for folder in (PROJECT, os.getcwd()):
        if folder not in sys.path:
            sys.path.append(folder)


def _loaded(name: str, load: Callable[[], object]) -> object:
    try:
        return load()
    except PolicyError:
        raise
    except Exception as problem:  # importing a user's code may raise anything
        raise PolicyError(f"policy: {name}: cannot be imported: {_said(problem)}") from problem


def _said(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {problem}"


def _checked(name: str, found: object) -> Callable[[], Policy]:
    if not callable(found) or not callable(getattr(found, "select", None)):
        raise PolicyError(f"policy: {name}: not a class with a select method")
    return found


def choose(
    policy: Policy, name: str, request: Request, candidates: Candidates, view: View, limit_s: float | None = None
) -> int:
    """Ask the policy and hold its answer against the contract.

    Raises PolicyError naming the policy when it raises, takes longer than `limit_s` (None: is not watched), or returns
    what is not a feasible candidate. RejectedError passes.
    """
    try:
        if limit_s is None:
            decode_id = policy.select(request, candidates, view)
        else:
            with time_limit(limit_s):
                decode_id = policy.select(request, candidates, view)
    except RejectedError:
        raise
    except TimeLimitPassed:
        raise _too_slow(name, request, limit_s) from None
    except PolicyError as problem:
        raise PolicyError(f"policy {name} failed on request {request.request_id}: {problem}") from problem
    except (Exception, SystemExit) as problem:  # a user's code may raise anything
        raise PolicyError(f"policy {name} failed on request {request.request_id}: {_said(problem)}") from problem
    try:
        chosen = operator.index(decode_id)
    except TypeError:
        raise _broken(name, request, decode_id, "a decode instance's number was expected") from None
    at = int(candidates.decode_id.searchsorted(chosen))
    if at == len(candidates) or candidates.decode_id[at] != chosen:
        raise _broken(name, request, decode_id, "no such decode instance")
    if not candidates.feasible[at]:
        raise _broken(name, request, decode_id, "it can never hold it")
    return chosen


def _too_slow(name: str, request: Request, limit_s: float | None) -> PolicyError:
    return PolicyError(f"policy {name} took longer than {limit_s:g} s on request {request.request_id}")


def _broken(name: str, request: Request, decode_id: object, reason: str) -> PolicyError:
    return PolicyError(f"policy {name} chose {decode_id!r} for request {request.request_id}: {reason}")
