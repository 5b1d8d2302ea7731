"""How often each request has been tried, what it is to avoid, and by when something must be heard of it.

The scenario's `serving.retry`, for the lifecycle; no clock of its own.
"""

from __future__ import annotations

import math

from scenario import RetrySpec


class Retries:
    """The attempts of every request of a run. All times are seconds of the real system from t = 0."""

    def __init__(self, spec: RetrySpec) -> None:
        self._spec = spec
        self._over: dict[int, int] = {}
        self._failed_at: dict[int, set[int]] = {}
        self._due_s: dict[int, float] = {}

    @property
    def retried(self) -> list[int]:
        """The requests that have been tried more than once."""
        return sorted(self._over)

    def may(self, request_id: int) -> bool:
        """Whether a request that has failed is tried once more."""
        return self._over.get(request_id, 0) + 1 < self._spec.attempts

    def again(self, request_id: int, *failed_at: int) -> None:
        """It is: an attempt is over that failed at these instances."""
        self._over[request_id] = self._over.get(request_id, 0) + 1
        if self._spec.exclude_failed:
            self._failed_at.setdefault(request_id, set()).update(failed_at)

    def avoided(self, request_id: int) -> frozenset[int]:
        """Instances at which the request has failed, to be chosen where no other can be."""
        return frozenset(self._failed_at.get(request_id, ()))

    def expect(self, request_id: int, by_s: float) -> float | None:
        """Something will be heard of the request by then, if all goes well: `timeout_s` later it is given up.

        When to look whether it was, if nobody is to look yet; None otherwise.
        """
        if math.isinf(self._spec.timeout_s):
            return None
        watched = request_id in self._due_s
        self._due_s[request_id] = by_s + self._spec.timeout_s
        return None if watched else self._due_s[request_id]

    def look(self, request_id: int, now_s: float) -> float:
        """When to look again: not after `now_s` where the request is overdue, infinite where nothing is expected."""
        due_s = self._due_s[request_id]
        if due_s <= now_s or math.isinf(due_s):
            del self._due_s[request_id]
        return due_s
