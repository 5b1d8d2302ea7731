"""One request of a recorded run sent to another instance: the same background, the same other transfers.

Owns what each instance would really have cost a request. All transfers start when they did, with the bytes that they
had; how long they take, and who is in which batch, follows. Nothing is decided here.
"""

from __future__ import annotations

import copy
import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from scenario import BackgroundFlow
from simulator.decode_batch import DecodeBatch, Joined
from simulator.path_choice import TRANSFER, PathChoice
from simulator.transport import FluidTransport
from topologies import Fabric


class SentRequest(NamedTuple):
    """A request as it was sent: instances by number, seconds from t = 0, bytes of KV (0: nothing was to be moved)."""

    request_id: int
    start_s: float
    source: int
    target: int
    size_B: float
    connections: int
    input_length: int
    output_length: int


class Destination(NamedTuple):
    """An instance that a request could have been sent to, and the bytes that it would have had to receive."""

    target: int
    size_B: float


class TrueCost(NamedTuple):
    """What a destination costs in the fluid model, seconds: the transfer with its latency, the wait for the batch, the
    first step."""

    transfer_s: float
    admission_s: float
    first_step_s: float

    @property
    def total_s(self) -> float:
        return self.transfer_s + self.admission_s + self.first_step_s


class DecodeSide(NamedTuple):
    """How decode instances serve: seconds of a step by requests running, slots of a batch, KV memory in tokens."""

    step_s: Callable[[float], float]
    batch_slots: int
    memory_tokens: int

    def batch(self) -> DecodeBatch:
        """An empty instance."""
        return DecodeBatch(self.step_s, self.batch_slots, self.memory_tokens, [0] * (self.batch_slots + 1))


class Asked(NamedTuple):
    """A request of which the costs are wanted, and its destinations."""

    request_id: int
    destinations: Sequence[Destination]


def true_costs(
    fabric: Fabric,
    choice: PathChoice,
    transport: FluidTransport,
    decode: DecodeSide,
    sent: Iterable[SentRequest],
    background: Iterable[BackgroundFlow],
    asked: Iterable[Asked],
) -> Iterator[tuple[int, dict[int, TrueCost]]]:
    """For each request asked about, in the order of their starts, the cost of every destination by instance.

    choice: how `transport` chooses paths. Of a destination that was not taken no path is on record: it is hashed.
    One pass over the run; each destination is a copy of its state at the request's start, followed to its first token.
    """
    events: list[tuple[float, int, int, SentRequest | BackgroundFlow]] = []
    for request in sent:
        events.append((max(request.start_s, transport.clock_s), 2, request.request_id, request))
    for flow in background:
        start_s = max(flow.start_s, transport.clock_s)
        if flow.stop_s > start_s:
            events += [(start_s, 1, flow.flow_id, flow), (flow.stop_s, 0, flow.flow_id, flow)]
    events.sort(key=lambda event: event[:3])
    wanted = {one.request_id: one.destinations for one in asked}
    run = _Run(fabric, decode, transport, events)
    left = len(wanted)
    while left:
        subject = run.upcoming
        if isinstance(subject, SentRequest) and subject.request_id in wanted:
            left -= 1
            yield subject.request_id, _of_each(run, choice, subject, wanted[subject.request_id])
        run.take_event()


def _of_each(
    run: _Run, choice: PathChoice, request: SentRequest, destinations: Sequence[Destination]
) -> dict[int, TrueCost]:
    unknown = choice.without(TRANSFER, request.request_id)
    found = {}
    for target, size_B in destinations:
        fork = run.fork(target, choice if target == request.target else unknown)
        found[target] = fork.cost(request._replace(target=target, size_B=size_B))
    return found


class _Run:
    """The state of the replay, at an instant: the network, the batches, what is on its way to them, what comes next."""

    def __init__(
        self,
        fabric: Fabric,
        decode: DecodeSide,
        transport: FluidTransport,
        events: Sequence[tuple[float, int, int, SentRequest | BackgroundFlow]],
    ) -> None:
        self._fabric = fabric
        self._decode = decode
        self._transport = transport
        self._events = events
        self._next = 0
        self._batches: dict[int, DecodeBatch] = {}
        self._only: int | None = None
        self._sent: dict[int, SentRequest] = {}
        self._arriving: list[tuple[float, int]] = []
        self._received_s: dict[int, float] = {}
        self._joined_s: dict[int, float] = {}

    @property
    def upcoming(self) -> SentRequest | BackgroundFlow:
        """What starts or stops next, everything before it done."""
        self._advance_to(self._events[self._next][0])
        return self._events[self._next][3]

    def take_event(self) -> None:
        """Let `upcoming` start or stop."""
        at_s, kind, _, subject = self._events[self._next]
        self._advance_to(at_s)
        self._next += 1
        if isinstance(subject, SentRequest):
            self._send(subject, at_s)
        elif kind:
            self._transport.start_background(subject)
        else:
            self._transport.stop_background(subject)

    def fork(self, target: int, choice: PathChoice) -> _Run:
        """A copy in which only the batch of `target` is followed."""
        fork = copy.copy(self)
        fork._transport = self._transport.fork(choice)
        fork._only = target
        fork._batches = {target: copy.deepcopy(self._batches[target])} if target in self._batches else {}
        fork._sent, fork._arriving = dict(self._sent), list(self._arriving)
        fork._received_s, fork._joined_s = {}, {}
        return fork

    def cost(self, request: SentRequest) -> TrueCost:
        """Send `request` instead of what comes next, and follow it to its first token."""
        at_s = self._events[self._next][0]
        self._next += 1
        number = request.request_id
        self._send(request, at_s)
        while number not in self._joined_s:
            next_s = min(self._own_next_s(), self._event_s())
            if next_s == math.inf:
                return TrueCost(*[math.nan] * 3)  # the batch could never hold it
            if self._own_next_s() <= self._event_s():
                self._advance_to(next_s)
            else:
                self.take_event()
        joined_s = self._joined_s[number]
        while self._event_s() <= joined_s:
            self.take_event()
        self._advance_to(joined_s)
        step_s = self._decode.step_s(float(self._batches[request.target].running))
        return TrueCost(self._received_s[number] - at_s, joined_s - self._received_s[number], step_s)

    def _event_s(self) -> float:
        return self._events[self._next][0] if self._next < len(self._events) else math.inf

    def _own_next_s(self) -> float:
        """When something next happens that no event of the record brings about."""
        received_s = self._arriving[0][0] if self._arriving else math.inf
        steps_s = (batch.next_s for batch in self._batches.values())
        return min(self._transport.next_delivery_s(), received_s, min(steps_s, default=math.inf))

    def _advance_to(self, to_s: float) -> None:
        """Do all that happens up to and at `to_s`: deliveries, then ends of steps, then requests that arrive."""
        while (now_s := self._own_next_s()) <= to_s:
            for request_id, at_s in self._transport.advance(now_s):
                request = self._sent[request_id]
                latency_s = self._fabric.spec.tier_latency_s(self._fabric.tier(request.source, request.target))
                heapq.heappush(self._arriving, (at_s + latency_s, request_id))
            for batch in self._batches.values():
                self._note(batch.advance(now_s))
            while self._arriving and self._arriving[0][0] <= now_s:
                self._receive(*heapq.heappop(self._arriving))
        self._transport.advance(to_s)

    def _send(self, request: SentRequest, at_s: float) -> None:
        self._sent[request.request_id] = request
        if request.size_B > 0:
            self._transport.start_transfer(
                request.request_id, request.source, request.target, request.size_B, request.connections
            )
        else:
            self._receive(at_s, request.request_id)

    def _receive(self, at_s: float, request_id: int) -> None:
        request = self._sent.pop(request_id)
        self._received_s[request_id] = at_s
        if self._only is not None and request.target != self._only:
            return
        batch = self._batches.setdefault(request.target, self._decode.batch())
        self._note(batch.offer(request_id, request.input_length, request.output_length, at_s))

    def _note(self, happened: Iterable[object]) -> None:
        for event in happened:
            if isinstance(event, Joined):
                self._joined_s[event.request_id] = event.at_s
