"""What the lifecycle of requests asks of a world, and what a lost instance took with it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from scheduler import Decision
from workloads import Request


class Movers(Protocol):
    """What a world is told to do. It reports to the `Lifecycle`, at once or later, what has come of it."""

    def arrive_later(self, request: Request) -> None:
        """Report `Lifecycle.arrive` of the next turn of a session at its `timestamp_s`, which may have just passed."""
        ...

    def prefill(self, request: Request, prefill_id: int, prefill_s: float) -> None:
        """Prefill a prompt at an instance: `prefill_started`, then `prefilled`.

        First come first served, or at once where the scenario's `serving.prefill` says so.
        """
        ...

    def transfer(self, request: Request, decision: Decision) -> None:
        """Move the KV and have the request decoded: `sending`, `received`, `admitted`, `first_token`, `finished`.

        Or `failed`, or `refused`, at any of these. While the prompt is in prefill only `serving.overlap` of the bytes
        may leave, evenly until its end.
        """
        ...

    def abandon(self, request_id: int, decode_id: int | None) -> None:
        """Have the decode instance, if one was chosen, forget a request that has failed or is to be placed anew.

        What is still reported of it belongs to an attempt that is over, and must not be passed on.
        """
        ...

    def wake(self, request_id: int, at_s: float) -> None:
        """Ask `Lifecycle.overdue` at that time. Only where the scenario has `serving.retry.timeout_s`."""
        ...


class Hit(NamedTuple):
    """The requests that a dead instance took with it: those that failed by it, and those that are tried once more."""

    failed: list[int]
    retried: list[int]
