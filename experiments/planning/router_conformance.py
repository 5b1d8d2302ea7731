"""Which parts of the contract of `netkv.route/v1` a router behind HTTP keeps, found out by asking it.

It is asked as in a run: by a `Dispatcher` of the default scenario, whose requests come, move and finish. A clause that
*must* hold can end a run where it does not; one that *should* costs time, or counts in special cases.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from experiments.running import RunSpec, make_spec
from scheduler import (
    Decision,
    Dispatcher,
    HttpRouter,
    NetworkSample,
    PolicyError,
    RejectedError,
    new_policy,
    parse_router_url,
    time_limit,
)
from workloads import Request

DECISIONS = 200
AT_WORK = 40
"""Requests that are under way at a time while it is asked so often."""

ANSWER_TOKENS = 300
LARGEST_PROMPT_TOKENS, SMALLEST_BLOCK_TOKENS = 131_072, 16
LARGE_FABRIC = {"fabric.pods": 8, "fabric.racks_per_pod": 4, "fabric.servers_per_rack": 4}
"""256 instances, half of which decode."""

BESIDE = "netkv_static"
"""The policy of ours whose decisions are timed beside the router's."""

Level = Literal["must", "should"]


@dataclass(frozen=True)
class Clause:
    """One part of the contract. `found`: what was seen, or what went wrong."""

    name: str
    level: Level
    holds: bool
    found: str


@dataclass(frozen=True)
class Conformance:
    """`decision_ms`, `beside_ms`: p50, p99 and longest of the router's decisions and of ours, milliseconds."""

    url: str
    clauses: tuple[Clause, ...]
    decision_ms: dict[str, float]
    beside_ms: dict[str, float]

    @property
    def holds(self) -> bool:
        """Whether everything holds that must."""
        return all(clause.holds for clause in self.clauses if clause.level == "must")


class _BrokenClauseError(Exception):
    """A clause does not hold; the message says what was found."""


def check_router(url: str, limit_s: float) -> Conformance:
    """Ask the router at `url`; each of its decisions may take `limit_s` seconds. PolicyError when `url` is none."""
    parse_router_url(url)
    spec = make_spec({}, {"policy": url, "policy_limit_s": limit_s, "world": "analytic"})
    asked = _Asked(spec)
    clauses: list[Clause] = []
    for name, level, check in asked.checks():
        try:
            clauses.append(Clause(name, level, True, check()))
        except (_BrokenClauseError, RejectedError) as problem:
            clauses.append(Clause(name, level, False, str(problem)))
        except PolicyError as problem:
            clauses.append(Clause(name, level, False, str(problem.__cause__ or problem)))
        if not clauses[-1].holds and name in ("connects", "decides"):
            break  # nothing else can be asked
    asked.close()
    ours = _timed(_Requests(spec, new_policy(BESIDE))) if asked.decision_ms else {}
    return Conformance(url, tuple(clauses), asked.decision_ms, ours)


class _Requests:
    """A dispatcher and the requests that it has placed, of which the oldest finishes when there are too many."""

    def __init__(self, spec: RunSpec, policy: Any) -> None:
        self.fabric, roles = spec.build()
        self.decode = roles.decode
        self.prefill = roles.prefill
        self.dispatcher = Dispatcher(spec.scenario, self.fabric, roles, policy)
        self._rng = spec.rng("requests")
        self._count = 0
        self._open: list[int] = []

    def ask(self, blocks: int = 16, block_tokens: int = 512) -> Decision:
        """One decision on a prompt of that many blocks, some of them shared with earlier ones."""
        number = self._count
        self._count += 1
        shared = int(self._rng.integers(4))
        ids = tuple(1_000 * shared + at for at in range(blocks // 2)) + tuple(
            1_000_000 + 10_000 * number + at for at in range(blocks - blocks // 2)
        )
        request = Request(number, 0.1 * number, blocks * block_tokens, ANSWER_TOKENS, ids, block_tokens)
        prefill_id = self.prefill[number % len(self.prefill)]
        decision = self.dispatcher.select(request, prefill_id, request.timestamp_s)
        self.dispatcher.transferred(number, request.timestamp_s + 0.05)
        self._open.append(number)
        if number % 3:
            self.dispatcher.admitted(number)
        if len(self._open) > AT_WORK:
            oldest = self._open.pop(0)
            if oldest % 3 == 0:
                self.dispatcher.admitted(oldest)
            self.dispatcher.finished(oldest)
        return decision

    def sample(self) -> NetworkSample:
        return NetworkSample(0.1 * self._count, self._rng.uniform(0, 1, len(self.fabric.links)))


class _Asked:
    """One router and what it was asked."""

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        self._url = parse_router_url(spec.policy)
        self._router: HttpRouter | None = None
        self.decision_ms: dict[str, float] = {}

    def checks(self) -> Iterator[tuple[str, Level, Callable[[], str]]]:
        yield "connects", "must", self._connects
        yield "decides", "must", self._decides
        yield "only feasible instances", "must", self._only_feasible
        yield "under load, in time", "must", self._under_load
        if self._url.snapshot:
            yield "with and without a snapshot", "must", self._with_a_snapshot
        yield "large requests", "must", self._large
        yield "unknown fields", "should", self._unknown_fields
        yield "keeps its connection", "should", self._keeps_its_connection
        yield "two connections at once", "should", self._two_connections
        yield "the same question, the same answer", "should", self._repeats

    def close(self) -> None:
        if self._router is not None:
            self._router.close()

    @property
    def router(self) -> HttpRouter:
        assert self._router is not None
        return self._router

    def _connects(self) -> str:
        self._router = HttpRouter(self._url, self._spec.policy_limit_s)
        return self._url.socket or self._url.authority

    def _decides(self) -> str:
        decision = _Requests(self._spec, self.router).ask()
        return f"instance {decision.decode_id}" + (f", because {decision.reason!r}" if decision.reason else "")

    def _only_feasible(self) -> str:
        """Ids are not positions, and an instance that cannot is not chosen, however idle it is."""
        requests = _Requests(self._spec, self.router)
        for only in requests.decode:
            for other in requests.decode:
                (requests.dispatcher.restored if other == only else requests.dispatcher.lost)(other)
            requests.ask()
        return f"{len(requests.decode)} times the only one"

    def _under_load(self) -> str:
        self.decision_ms = _timed(_Requests(self._spec, self.router))
        return f"{DECISIONS} decisions, {times(self.decision_ms)} (limit {self._spec.policy_limit_s:g} s)"

    def _with_a_snapshot(self) -> str:
        requests = _Requests(self._spec, self.router)
        requests.ask()
        requests.dispatcher.offer_sample(requests.sample(), 0.0)
        requests.ask()
        return f"null, then {len(requests.fabric.links)} links"

    def _large(self) -> str:
        spec = make_spec({}, {**LARGE_FABRIC, "policy": self._url.text, "policy_limit_s": self._spec.policy_limit_s})
        requests = _Requests(spec, watched := _Watched(self.router))
        requests.dispatcher.offer_sample(requests.sample(), 0.0)
        blocks = LARGEST_PROMPT_TOKENS // SMALLEST_BLOCK_TOKENS
        requests.ask(blocks, SMALLEST_BLOCK_TOKENS)
        return f"{len(requests.decode)} candidates, {blocks:,} blocks: {watched.longest:,} bytes"

    def _unknown_fields(self) -> str:
        body = json.loads(self._a_body())
        self._post(json.dumps(body | {"not_known_yet": {"in": ["version", 2]}}).encode())
        return "ignored"

    def _keeps_its_connection(self) -> str:
        if self.router.connections > 1:
            raise _BrokenClauseError(
                f"{self.router.connections} connections so far: each decision that opens one takes longer"
            )
        return "one so far"

    def _two_connections(self) -> str:
        second = HttpRouter(self._url, self._spec.policy_limit_s)
        try:
            _Requests(self._spec, second).ask()
        finally:
            second.close()
        return "the second is served while the first is open"

    def _repeats(self) -> str:
        body = self._a_body()
        chosen = {json.loads(self._post(body)).get("decode_id") for _ in range(10)}
        if len(chosen) > 1:
            raise _BrokenClauseError(
                f"10 times the same question, {len(chosen)} instances: no two runs will be the same"
            )
        return "10 times"

    def _a_body(self) -> bytes:
        watched = _Watched(self.router)
        _Requests(self._spec, watched).ask()
        return watched.last

    def _post(self, body: bytes) -> bytes:
        with time_limit(self._spec.policy_limit_s):
            return self.router.post(body)


class _Watched:
    """A router, and the last body that it was sent."""

    def __init__(self, router: HttpRouter) -> None:
        self._router = router
        self.last = b""

    @property
    def longest(self) -> int:
        return len(self.last)

    def select(self, request: Any, candidates: Any, view: Any) -> int:
        self.last = self._router.body_of(request, candidates, view)
        return self._router.choice(self.last)


def _timed(requests: _Requests) -> dict[str, float]:
    took_ms = np.array([requests.ask().decision_us for _ in range(DECISIONS)]) / 1e3
    return {"p50": float(np.median(took_ms)), "p99": float(np.quantile(took_ms, 0.99)), "longest": float(took_ms.max())}


def times(of_ms: dict[str, float]) -> str:
    """`p50 0.61 ms, p99 0.80 ms, longest 1.20 ms`."""
    return ", ".join(f"{name} {value:.2f} ms" for name, value in of_ms.items())
