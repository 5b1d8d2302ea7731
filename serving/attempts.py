"""Numbers for the attempts of a request, so that what is still reported of a former one is known as stale."""

from __future__ import annotations

STRIDE = 1 << 30
"""The number of each further attempt of a request is larger by this; no workload has so many requests."""


class Attempts:
    """The present attempt of every request; the number of the first is the request's own."""

    def __init__(self) -> None:
        self._over: dict[int, int] = {}

    def number(self, request_id: int) -> int:
        """The number of a request's present attempt."""
        return request_id + STRIDE * self._over.get(request_id, 0)

    def end(self, request_id: int) -> None:
        """The present attempt is over: what is reported of it from now on is stale."""
        self._over[request_id] = self._over.get(request_id, 0) + 1

    def request_of(self, number: int) -> int | None:
        """The request of which that is the present attempt; None for one that is over."""
        request_id = number % STRIDE
        return request_id if self.number(request_id) == number else None
