"""What a router behind HTTP is asked beyond any policy: the clauses of `netkv.route/v1` on bodies and connections."""

from __future__ import annotations

import json
from collections.abc import Iterator

from experiments.planning.conformance import AskedPolicy, BrokenClauseError, Check, PlacedRequests
from experiments.running import RunSpec
from scheduler import Candidates, HttpRouter, View, parse_router_url, time_limit
from workloads import Request


class AskedRouter(AskedPolicy):
    """A router: all questions go over one connection, but for the one that asks for a second."""

    DECIDES = ("connects", "decides")

    def __init__(self, spec: RunSpec) -> None:
        super().__init__(spec)
        self._url = parse_router_url(spec.policy)
        self._router: HttpRouter | None = None

    def checks(self) -> Iterator[Check]:
        yield "connects", "must", self._connects
        yield from self._checks_of_any()
        yield "unknown fields", "should", self._unknown_fields
        yield "keeps its connection", "should", self._keeps_its_connection
        yield "two connections at once", "should", self._two_connections
        yield "the same question, the same answer", "should", self._repeats

    def close(self) -> None:
        if self._router is not None:
            self._router.close()

    def _policy(self) -> HttpRouter:
        assert self._router is not None
        return self._router

    def _connects(self) -> str:
        self._router = HttpRouter(self._url, self._spec.policy_limit_s)
        return self._url.socket or self._url.authority

    def _large(self) -> str:
        requests, blocks = self._ask_largest(watched := _Watched(self._policy()))
        return f"{len(requests.decode)} candidates, {blocks:,} blocks: {len(watched.last):,} bytes"

    def _unknown_fields(self) -> str:
        body = json.loads(self._a_body())
        self._post(json.dumps(body | {"not_known_yet": {"in": ["version", 2]}}).encode())
        return "ignored"

    def _keeps_its_connection(self) -> str:
        if (opened := self._policy().connections) > 1:
            raise BrokenClauseError(f"{opened} connections so far: each decision that opens one takes longer")
        return "one so far"

    def _two_connections(self) -> str:
        second = HttpRouter(self._url, self._spec.policy_limit_s)
        try:
            PlacedRequests(self._spec, second).ask()
        finally:
            second.close()
        return "the second is served while the first is open"

    def _repeats(self) -> str:
        body = self._a_body()
        chosen = {json.loads(self._post(body)).get("decode_id") for _ in range(10)}
        if len(chosen) > 1:
            raise BrokenClauseError(
                f"10 times the same question, {len(chosen)} instances: no two runs will be the same"
            )
        return "10 times"

    def _a_body(self) -> bytes:
        watched = _Watched(self._policy())
        PlacedRequests(self._spec, watched).ask()
        return watched.last

    def _post(self, body: bytes) -> bytes:
        with time_limit(self._spec.policy_limit_s):
            return self._policy().post(body)


class _Watched:
    """A router, and the last body that it was sent."""

    def __init__(self, router: HttpRouter) -> None:
        self._router = router
        self.last = b""

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        self.last = self._router.body_of(request, candidates, view)
        return self._router.choice(self.last)
