"""The life of every request of a run: prefill, decision, transfer, decode, and the record of each step.

Owns the order of a request's events; what is decided belongs to the scheduler, what moves to the workers. All times
handed to the scheduler and recorded are real-system seconds from the run's start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from scenario import Scenario
from scheduler import Decision, Dispatcher, PolicyError, RejectedError
from serving import ENDED_EARLY, PrefillQueues, RequestRecord
from testbed.fabric_up import FabricUp
from testbed.run_clock import RunClock
from testbed.worker_pool import DECODE_PORT, Event, Tell
from topologies import Roles
from workloads import Request

LATE_S = 0.02
"""A request that is issued later than this is counted as late: a tenth of a short transfer, real seconds."""


class RequestLives:
    """The requests of one run. `handlers` are for the events of prefill and decode workers, by name.

    `done` is set once no request is open. `records` and `decisions` are rows of the run's tables, `token_gaps_ms` the
    gaps between two tokens of a request, `lateness_s` how late each request was issued, `policy_error` how the policy
    broke its contract (empty: it did not).
    """

    def __init__(
        self,
        up: FabricUp,
        scenario: Scenario,
        roles: Roles,
        requests: list[Request],
        clock: RunClock,
        tell: Tell,
    ) -> None:
        self._up = up
        self._scenario = scenario
        self._requests = requests
        self._clock = clock
        self._tell = tell
        self._gpus = scenario.fabric.gpus_per_instance
        self._queues = PrefillQueues(roles.prefill)
        self._by_id = {request.request_id: request for request in requests}
        self._decided: dict[int, Decision] = {}
        self._rows: dict[int, dict[str, Any]] = {}
        self._open = set(self._by_id)
        self._started_s: dict[int, float] = {}
        self._received_s: dict[int, float] = {}
        self.dispatcher = Dispatcher(scenario, up.fabric, roles)
        self.records = {request.request_id: RequestRecord.of(request, scenario.policy) for request in requests}
        self.token_gaps_ms: list[float] = []
        self.lateness_s: list[float] = []
        self.policy_error = ""
        self.done = asyncio.Event()
        self.handlers: dict[str, Callable[[Event], None]] = {
            "prefill_started": self._on_prefill_started,
            "prefilled": self._on_prefilled,
            "transferred": self._on_transferred,
            "received": self._on_received,
            "admitted": self._on_admitted,
            "first_token": self._on_first_token,
            "finished": self._on_finished,
            "transfer_failed": self._on_transfer_failed,
            "rejected": self._on_rejected,
            "cancelled": self._on_cancelled,
        }

    @property
    def decisions(self) -> list[dict[str, Any]]:
        return list(self._rows.values())

    @property
    def closed(self) -> int:
        """How many requests are over, one way or another."""
        return len(self.records) - len(self._open)

    async def issue(self) -> None:
        """Hand every request to a prefill instance when it arrives."""
        if not self._requests:
            self.done.set()
        for request in self._requests:
            await self._clock.until(request.timestamp_s)
            self.lateness_s.append(self._clock.now_s() - request.timestamp_s)
            prefill_s = self._scenario.model.prefill_s(request.input_length, self._gpus)
            prefill_id = self._queues.assign(prefill_s)
            self.records[request.request_id].prefill_id = prefill_id
            scaled_s = prefill_s * self._clock.dilation
            self._tell(
                "prefill", prefill_id, {"do": "prefill", "request_id": request.request_id, "prefill_s": scaled_s}
            )

    def give_up_at_deadline(self) -> None:
        """Say of every open request why it is none of the finished."""
        for request_id in self._open:
            self.records[request_id].error = "not finished at the run's deadline"

    def _on_prefill_started(self, event: Event) -> None:
        record = self.records[event["request_id"]]
        record.queue_ms = (self._clock.real_s(event["at_s"]) - record.timestamp_s) * 1e3

    def _on_prefilled(self, event: Event) -> None:
        request = self._by_id[event["request_id"]]
        if self.policy_error:
            return
        record = self.records[request.request_id]
        record.prefill_ms = (event["at_s"] - event["started_s"]) / self._clock.dilation * 1e3
        self._queues.done(record.prefill_id, self._scenario.model.prefill_s(request.input_length, self._gpus))
        try:
            decision = self.dispatcher.select(request, record.prefill_id, self._clock.now_s())
        except RejectedError as problem:
            record.status = "rejected"
            self._close(request.request_id, str(problem))
            return
        except PolicyError as problem:
            self._end_early(request.request_id, str(problem))
            return
        record.decided(decision)
        self._decided[request.request_id] = decision
        self._rows[request.request_id] = asdict(decision)
        self._start_transfer(request, decision)

    def _start_transfer(self, request: Request, decision: Decision) -> None:
        emulated_bytes = round(decision.kv_bytes / self._up.spec.rate_scale)
        moved = {
            "request_id": request.request_id,
            "bytes": emulated_bytes,
            "stripes": self._scenario.serving.stripes,
        }
        tokens = {"context_tokens": request.input_length, "output_tokens": request.output_length}
        self._tell("decode", decision.decode_id, {"do": "expect", **moved, **tokens})
        if emulated_bytes:
            address = [self._up.address(decision.decode_id), DECODE_PORT]
            bound = {"address": address, "deadline_s": self._up.spec.run_deadline_s}
            self._tell("prefill", decision.prefill_id, {"do": "transfer", **moved, **bound})
        else:
            self._started_s[request.request_id] = time.monotonic()

    def _on_transferred(self, event: Event) -> None:
        request_id = event["request_id"]
        self._started_s[request_id] = event["started_s"]
        self._rows[request_id]["source_ports"] = event["source_ports"]
        self._rows[request_id]["retransmitted"] = event["retransmitted"]
        self._rows[request_id]["wire_bytes"] = event["wire_bytes"]
        self._note_transfer(request_id)

    def _on_received(self, event: Event) -> None:
        request_id = event["request_id"]
        self._received_s[request_id] = event["at_s"]
        self.dispatcher.transferred(request_id, self._clock.real_s(event["at_s"]))
        self._note_transfer(request_id)

    def _note_transfer(self, request_id: int) -> None:
        """Both ends have spoken: from the sender's first connection to the receiver's last byte."""
        if request_id in self._started_s and request_id in self._received_s:
            taken_s = max(self._received_s[request_id] - self._started_s[request_id], 0.0)
            self.records[request_id].kv_transfer_ms = taken_s / self._clock.dilation * 1e3
            self._rows[request_id]["transfer_started_s"] = self._clock.real_s(self._started_s[request_id])

    def _on_admitted(self, event: Event) -> None:
        request_id = event["request_id"]
        self.dispatcher.admitted(request_id)
        waited_s = event["at_s"] - self._received_s[request_id]
        self.records[request_id].admission_ms = waited_s / self._clock.dilation * 1e3

    def _on_first_token(self, event: Event) -> None:
        record = self.records[event["request_id"]]
        record.ttft_ms = (self._clock.real_s(event["at_s"]) - record.timestamp_s) * 1e3

    def _on_finished(self, event: Event) -> None:
        request_id = event["request_id"]
        token_s = [self._clock.real_s(at_s) for at_s in event["token_s"]]
        self.records[request_id].emitted(token_s[0], token_s[-1])
        self.token_gaps_ms.extend((b - a) * 1e3 for a, b in pairwise(token_s))
        self.dispatcher.finished(request_id)
        self._close(request_id)

    def _on_transfer_failed(self, event: Event) -> None:
        self._give_up(event["request_id"], event["error"])

    def _on_rejected(self, event: Event) -> None:
        self.records[event["request_id"]].status = "rejected"
        self._give_up(event["request_id"], event["error"])

    def _give_up(self, request_id: int, error: str) -> None:
        if request_id in self._open:
            self._tell("decode", self._decided[request_id].decode_id, {"do": "cancel", "request_id": request_id})
            self.dispatcher.failed(request_id)
            self._close(request_id, error)

    def _on_cancelled(self, event: Event) -> None:
        """Expected after `_give_up`."""

    def _close(self, request_id: int, error: str = "") -> None:
        self.records[request_id].error = error
        self._open.discard(request_id)
        if not self._open:
            self.done.set()

    def _end_early(self, request_id: int, error: str) -> None:
        """The policy broke its contract: nobody is asked again, and the record keeps what has happened so far."""
        self.policy_error = error
        for open_id in sorted(self._open):
            self._close(open_id, error if open_id == request_id else ENDED_EARLY)
