"""A policy held against the contract before it is put under test: somebody's own class, a router, or one of ours."""

from __future__ import annotations

from experiments.planning.conformance import AskedPolicy, Conformance, conformance_of
from experiments.planning.router_clauses import AskedRouter
from experiments.running import make_spec
from scheduler import find_policy, is_router_url


def check_policy(policy: str, limit_s: float) -> Conformance:
    """Ask a policy some hundreds of times; each decision may take `limit_s` seconds. PolicyError when there is none."""
    find_policy(policy)
    spec = make_spec({}, {"policy": policy, "policy_limit_s": limit_s, "world": "analytic"})
    asked = AskedRouter(spec) if is_router_url(policy) else AskedPolicy(spec)
    return conformance_of(asked, policy, spec)
