"""The movers of `serving.Lifecycle` in the emulated world: commands to the workers, and what these report.

Hands every request over when it arrives. Worker events carry the machine's monotonic clock; the lifecycle is told
seconds of the real system from t = 0.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from scenario import Scenario
from scheduler import Decision, Policy, PrefixIndex
from serving import Attempts, Lifecycle
from testbed.fabric_up import FabricUp
from testbed.run_clock import RunClock
from testbed.spool import Spool
from testbed.worker_pool import DECODE_PORT, Event, Tell
from topologies import Roles
from workloads import Request

LATE_S = 0.02
"""A request that is issued later than this is counted as late: a tenth of a short transfer, real seconds."""


class ClosedRequest(NamedTuple):
    """What a run keeps of a request that is over, beside its record: its row of the decisions, None without one, and
    the gaps between its tokens, None where it did not finish.
    """

    request_id: int
    decision: dict[str, Any] | None
    gaps_ms: array[float] | None


class RequestMovers:
    """Moves the requests of one run. `handlers` are for the events of prefill and decode workers, by name.

    `done` is set once no request of `life` is open. `closed`: those that are over; `lateness_s`: how late each request
    was issued.
    """

    def __init__(
        self,
        up: FabricUp,
        scenario: Scenario,
        roles: Roles,
        requests: list[Request],
        clock: RunClock,
        tell: Tell,
        policy: Policy | None = None,
        prefixes: PrefixIndex | None = None,
    ) -> None:
        self._up = up
        self._stripes = scenario.serving.stripes
        self._overlap = scenario.serving.overlap
        self._prefill = "prefill" if scenario.serving.prefill == "queue" else "prefill_at_once"
        self._clock = clock
        self._tell = tell
        self.life = Lifecycle(
            scenario, up.fabric, roles, requests, self, on_closed=self._note_closed, policy=policy, prefixes=prefixes
        )
        self.closed: Spool[ClosedRequest] = Spool()
        self.lateness_s = array("d")
        self._gaps_ms: dict[int, array[float]] = {}
        self.done = asyncio.Event()
        self._attempts = Attempts()
        handlers: dict[str, Callable[[Event], None]] = {
            "prefill_started": self._on_prefill_started,
            "prefilled": self._on_prefilled,
            "transferred": self._on_transferred,
            "received": self._on_received,
            "admitted": self._on_admitted,
            "first_token": self._on_first_token,
            "token_block": self._on_token_block,
            "finished": self._on_finished,
            "transfer_failed": self._on_transfer_failed,
            "rejected": self._on_rejected,
            "cancelled": self._on_cancelled,
        }
        self.handlers = {name: self._if_current(handler) for name, handler in handlers.items()}

    async def issue(self) -> None:
        """Hand every request over when it arrives, but for those that wait for another."""
        if self.life.done:
            self.done.set()
        for request in self.life.turns.opening:
            await self._clock.until(request.timestamp_s)
            self._arrive(request)

    def _arrive(self, request: Request) -> None:
        self.lateness_s.append(self._clock.now_s() - request.timestamp_s)
        self.life.arrive(request)

    # -- what the lifecycle orders ----------------------------------------------------------------------------------

    def arrive_later(self, request: Request) -> None:
        wait_s = max(request.timestamp_s - self._clock.now_s(), 0.0) * self._clock.dilation
        asyncio.get_running_loop().call_later(wait_s, lambda: self._arrive(request))

    def prefill(self, request: Request, prefill_id: int, prefill_s: float) -> None:
        scaled_s = prefill_s * self._clock.dilation
        self._tell(
            "prefill",
            prefill_id,
            {"do": self._prefill, "request_id": self._attempts.number(request.request_id), "prefill_s": scaled_s},
        )

    def transfer(self, request: Request, decision: Decision) -> None:
        emulated_bytes = round(decision.kv_bytes / self._up.spec.rate_scale)
        early = self.life.in_prefill(request.request_id)
        if early:  # the last byte must not be in before the prefill ends
            emulated_bytes = max(emulated_bytes, 1)
        moved = {
            "request_id": self._attempts.number(request.request_id),
            "bytes": emulated_bytes,
            "stripes": self._stripes,
        }
        tokens = {"context_tokens": request.input_length, "output_tokens": request.output_length}
        marks = {"marks": [*at]} if (at := self.life.dispatcher.token_marks(request)) else {}
        self._tell("decode", decision.decode_id, {"do": "expect", **moved, **tokens, **marks})
        if emulated_bytes:
            address = [self._up.address(decision.decode_id), DECODE_PORT]
            bound = {"address": address, "deadline_s": self._up.spec.deadline_s}
            overlap = {"overlap": self._overlap} if early else {}
            self._tell("prefill", decision.prefill_id, {"do": "transfer", **moved, **bound, **overlap})
        else:
            self.life.sending(request.request_id, self._clock.now_s())

    def wake(self, request_id: int, at_s: float) -> None:
        wait_s = max(at_s - self._clock.now_s(), 0.0) * self._clock.dilation
        asyncio.get_running_loop().call_later(wait_s, lambda: self.life.overdue(request_id, self._clock.now_s()))

    def abandon(self, request_id: int, decode_id: int | None) -> None:
        if decode_id is not None:
            self._tell("decode", decode_id, {"do": "cancel", "request_id": self._attempts.number(request_id)})
        self._attempts.end(request_id)

    def _if_current(self, handler: Callable[[Event], None]) -> Callable[[Event], None]:
        """Pass events of the present attempt of a request on, under its own number, and no others."""

        def pass_on(event: Event) -> None:
            request_id = self._attempts.request_of(event["request_id"])
            if request_id is not None:
                handler({**event, "request_id": request_id})

        return pass_on

    def _note_closed(self, request_id: int) -> None:
        decision, gaps_ms = self.life.decisions.pop(request_id, None), self._gaps_ms.pop(request_id, None)
        self.closed.append(ClosedRequest(request_id, decision, gaps_ms))
        if self.life.done:
            self.done.set()

    # -- what the workers report ------------------------------------------------------------------------------------

    def _on_prefill_started(self, event: Event) -> None:
        self.life.prefill_started(event["request_id"], self._clock.real_s(event["at_s"]), self._clock.now_s())

    def _on_prefilled(self, event: Event) -> None:
        took_s = (event["at_s"] - event["started_s"]) / self._clock.dilation
        self.life.prefilled(event["request_id"], took_s, self._clock.now_s())

    def _on_transferred(self, event: Event) -> None:
        facts = {name: event[name] for name in ("source_ports", "target_port", "retransmitted", "wire_bytes")}
        self.life.sending(event["request_id"], self._clock.real_s(event["started_s"]), **facts)

    def _on_received(self, event: Event) -> None:
        self.life.received(event["request_id"], self._clock.real_s(event["at_s"]))

    def _on_admitted(self, event: Event) -> None:
        self.life.admitted(event["request_id"], self._clock.real_s(event["at_s"]))

    def _on_first_token(self, event: Event) -> None:
        self.life.first_token(event["request_id"], self._clock.real_s(event["at_s"]))

    def _on_token_block(self, event: Event) -> None:
        self.life.token_block(event["request_id"])

    def _on_finished(self, event: Event) -> None:
        token_s = [self._clock.real_s(at_s) for at_s in event["token_s"]]
        self._gaps_ms[event["request_id"]] = array("d", [(b - a) * 1e3 for a, b in pairwise(token_s)])
        self.life.finished(event["request_id"], token_s[0], token_s[-1])

    def _on_transfer_failed(self, event: Event) -> None:
        self.life.failed(event["request_id"], event["error"], self._clock.now_s())

    def _on_rejected(self, event: Event) -> None:
        self.life.refused(event["request_id"], event["error"])

    def _on_cancelled(self, event: Event) -> None:
        """The answer to `abandon`: nothing is left to do."""
