"""Which parts of the contract a policy keeps, found out by asking it before it is put under test.

It is asked as in a run: by a `Dispatcher` of the default scenario, whose requests come, move and finish. A clause that
*must* hold can end a run, or spoil it, where it does not; one that *should* costs time, or counts in special cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from experiments.running import RunSpec, make_spec
from scheduler import (
    Candidates,
    Decision,
    Dispatcher,
    NetworkSample,
    Policy,
    PolicyError,
    RejectedError,
    View,
    new_policy,
    reads_telemetry,
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
"""The policy of ours whose decisions are timed beside this one's."""

Level = Literal["must", "should"]
Check = tuple[str, Level, Callable[[], str]]
"""A clause's name, its level, and what tries it: it returns what was found, or raises what went wrong."""


@dataclass(frozen=True)
class Clause:
    """One part of the contract. `found`: what was seen, or what went wrong."""

    name: str
    level: Level
    holds: bool
    found: str


@dataclass(frozen=True)
class Conformance:
    """`decision_ms`, `beside_ms`: p50, p99 and longest of the policy's decisions and of ours, milliseconds."""

    policy: str
    clauses: tuple[Clause, ...]
    decision_ms: dict[str, float]
    beside_ms: dict[str, float]

    @property
    def holds(self) -> bool:
        """Whether everything holds that must."""
        return all(clause.holds for clause in self.clauses if clause.level == "must")


class BrokenClauseError(Exception):
    """A clause does not hold; the message says what was found."""


class PlacedRequests:
    """A dispatcher and the requests that it has placed, of which the oldest finishes when there are too many."""

    def __init__(self, spec: RunSpec, policy: Policy) -> None:
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

    def ask_often(self) -> tuple[list[Decision], int]:
        """`DECISIONS` questions: the decisions, and how many requests were turned away."""
        decisions: list[Decision] = []
        turned_away = 0
        for _ in range(DECISIONS):
            try:
                decisions.append(self.ask())
            except RejectedError:
                turned_away += 1
        return decisions, turned_away

    def sample(self) -> NetworkSample:
        return NetworkSample(0.1 * self._count, self._rng.uniform(0, 1, len(self.fabric.links)))


class AskedPolicy:
    """One policy, what it is asked, and how long its decisions took."""

    DECIDES = ("can be made", "decides")
    """Clauses without which nothing else can be asked."""

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        self.decision_ms: dict[str, float] = {}

    def checks(self) -> Iterator[Check]:
        yield "can be made", "must", self._can_be_made
        yield from self._checks_of_any()
        yield "changes no argument", "must", self._changes_no_argument
        yield "the same requests, the same answers", "should", self._repeats

    def close(self) -> None:
        """Give back what it took to ask."""

    def _policy(self) -> Policy:
        """Each run makes a new object of a class."""
        return new_policy(self._spec.policy, limit_s=self._spec.policy_limit_s)

    def _checks_of_any(self) -> Iterator[Check]:
        yield "decides", "must", self._decides
        yield "only feasible instances", "must", self._only_feasible
        yield "under load, in time", "must", self._under_load
        if reads_telemetry(self._spec.policy):
            yield "with and without a snapshot", "must", self._with_a_snapshot
        yield "large requests", "must", self._large

    def _can_be_made(self) -> str:
        return type(self._policy()).__name__

    def _decides(self) -> str:
        decision = PlacedRequests(self._spec, self._policy()).ask()
        return f"instance {decision.decode_id}" + (f", because {decision.reason!r}" if decision.reason else "")

    def _only_feasible(self) -> str:
        """Ids are not positions, and an instance that cannot is not chosen, however idle it is."""
        requests = PlacedRequests(self._spec, self._policy())
        for only in requests.decode:
            for other in requests.decode:
                (requests.dispatcher.restored if other == only else requests.dispatcher.lost)(other)
            requests.ask()
        return f"{len(requests.decode)} times the only one"

    def _under_load(self) -> str:
        decisions, turned_away = PlacedRequests(self._spec, self._policy()).ask_often()
        if not decisions:
            raise BrokenClauseError(f"all of {turned_away} requests were turned away")
        self.decision_ms = durations_ms(decisions)
        refused = f", {turned_away} requests turned away" if turned_away else ""
        return f"{len(decisions)} decisions, {times(self.decision_ms)} (limit {self._spec.policy_limit_s:g} s){refused}"

    def _with_a_snapshot(self) -> str:
        requests = PlacedRequests(self._spec, self._policy())
        requests.ask()
        requests.dispatcher.offer_sample(requests.sample(), 0.0)
        requests.ask()
        return f"without, then of {len(requests.fabric.links)} links"

    def _large(self) -> str:
        try:
            requests, blocks = self._ask_largest(self._policy())
        except RejectedError as problem:
            return f"turned away: {problem}"
        return f"{len(requests.decode)} candidates, {blocks:,} blocks"

    def _ask_largest(self, policy: Policy) -> tuple[PlacedRequests, int]:
        large = {**LARGE_FABRIC, "policy": self._spec.policy, "policy_limit_s": self._spec.policy_limit_s}
        requests = PlacedRequests(make_spec({}, large), policy)
        requests.dispatcher.offer_sample(requests.sample(), 0.0)
        blocks = LARGEST_PROMPT_TOKENS // SMALLEST_BLOCK_TOKENS
        requests.ask(blocks, SMALLEST_BLOCK_TOKENS)
        return requests, blocks

    def _changes_no_argument(self) -> str:
        guarded = _Guarded(self._policy())
        requests = PlacedRequests(self._spec, guarded)
        requests.ask_often()
        if guarded.changed:
            raise BrokenClauseError(f"it changed candidates.{', candidates.'.join(sorted(guarded.changed))}")
        return f"{DECISIONS} times"

    def _repeats(self) -> str:
        chosen = [
            [decision.decode_id for decision in PlacedRequests(self._spec, self._policy()).ask_often()[0]]
            for _ in range(2)
        ]
        if chosen[0] != chosen[1]:
            raise BrokenClauseError(
                f"the same {DECISIONS} requests twice, other instances: draw from `candidates.rng` or `view.rng`, which"
                " are the run's, or say why in an attribute `unrepeatable`"
            )
        return "twice"


class _Guarded:
    """A policy, and the arrays of its candidates that it has changed."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.changed: set[str] = set()

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        arrays = {one.name: getattr(candidates, one.name) for one in fields(candidates)}
        before = {name: value.copy() for name, value in arrays.items() if isinstance(value, np.ndarray)}
        decode_id = self._policy.select(request, candidates, view)
        self.changed |= {name for name, value in before.items() if not np.array_equal(value, arrays[name])}
        return decode_id

    def __getattr__(self, name: str) -> Any:  # its hooks, and what it says of itself
        return getattr(self._policy, name)


def conformance_of(asked: AskedPolicy, policy: str, spec: RunSpec) -> Conformance:
    """Ask it everything, or what can be asked."""
    clauses: list[Clause] = []
    for name, level, check in asked.checks():
        try:
            clauses.append(Clause(name, level, True, check()))
        except (BrokenClauseError, RejectedError) as problem:
            clauses.append(Clause(name, level, False, str(problem)))
        except PolicyError as problem:
            cause = problem.__cause__  # of a router, which says it all without the request's number
            said = cause if isinstance(cause, PolicyError) else problem
            clauses.append(Clause(name, level, False, str(said)))
        if not clauses[-1].holds and name in asked.DECIDES:
            break
    asked.close()
    ours: dict[str, float] = {}
    if asked.decision_ms:
        ours = durations_ms(PlacedRequests(spec, new_policy(BESIDE)).ask_often()[0])
    return Conformance(policy, tuple(clauses), asked.decision_ms, ours)


def durations_ms(decisions: list[Decision]) -> dict[str, float]:
    took_ms = np.array([decision.decision_us for decision in decisions]) / 1e3
    return {"p50": float(np.median(took_ms)), "p99": float(np.quantile(took_ms, 0.99)), "longest": float(took_ms.max())}


def times(of_ms: dict[str, float]) -> str:
    """`p50 0.61 ms, p99 0.80 ms, longest 1.20 ms`."""
    return ", ".join(f"{name} {value:.2f} ms" for name, value in of_ms.items())
