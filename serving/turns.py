"""The turns of a run's sessions: which requests arrive by themselves, and which comes when one has been answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from workloads import Request, turns_before


class Turns:
    """`opening`: the requests that arrive by themselves, in order; `arrived`: the numbers of those that have, in order,
    others too."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.arrived: list[int] = []
        before = turns_before(requests)
        self.opening = [request for request, turn in zip(requests, before, strict=True) if turn is None]
        self._next = {
            requests[turn].request_id: request
            for request, turn in zip(requests, before, strict=True)
            if turn is not None
        }

    def answered(self, request_id: int, last_token_s: float) -> Request | None:
        """The turn that comes next, with the time at which it does; None where nothing waits for this one."""
        turn = self._next.pop(request_id, None)
        if turn is None:
            return None
        assert turn.delay_s is not None
        return replace(turn, timestamp_s=last_token_s + turn.delay_s)

    def unanswered(self, request_id: int) -> list[int]:
        """The turns that never come because this one was not answered."""
        lost = []
        while (turn := self._next.pop(request_id, None)) is not None:
            request_id = turn.request_id
            lost.append(request_id)
        return lost
