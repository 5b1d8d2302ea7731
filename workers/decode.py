"""The decode worker: receives KV blobs, admits their requests to its batch, and emits tokens by timer.

    python -m workers.decode --name h3 --control PATH --address 10.0.0.3 --port 7001 [--step-table TABLE] ...

Connects `Receiver`, `Batch` and the clock. It sleeps until the next step boundary of the batch's own schedule and
stamps every event with the real clock, so the lag of this machine shows in the results and does not accumulate.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from workers.batch import Admitted, Batch, Event, Finished, FirstToken, MarkedToken, Rejected, StepEnded, StepLog
from workers.control_channel import ControlChannel, add_realtime_argument, argument_parser, stamp
from workers.inbound import BlobReceiver, Receiver
from workers.steps import StepTable
from workers.streams import StreamOptions, add_engine_arguments
from workers.wire import STRIPES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.command import Command
    from workers.loop import Timer

    OnReceived = Callable[[int, float, float, int], None]
    OnError = Callable[[str, int | None, str], None]
    ReceiverFor = Callable[[OnReceived, OnError], BlobReceiver]

DEFAULT_STEP_TABLE = "1:0.030,16:0.034,32:0.039,64:0.050"
DEFAULT_SLOTS = 64
DEFAULT_MEMORY_TOKENS = 460_000


class _Size(NamedTuple):
    context_tokens: int
    output_tokens: int


class _Announced(NamedTuple):
    size: _Size
    marks: list[int]


class DecodeWorker:
    """Matches what the driver announced (`expect`) with what arrived from the network."""

    def __init__(self, channel: ControlChannel, batch: Batch, receiver_for: ReceiverFor) -> None:
        self._channel = channel
        self._loop = channel.loop
        self._batch = batch
        self._stamps = StepLog()
        self._timer: Timer | None = None
        self._expected: dict[int, _Announced] = {}  # announced, not yet offered to the batch
        self._received: set[int] = set()  # received, not yet announced
        self._receiver = receiver_for(self._on_received, self._on_error)

    def expect(self, command: Command) -> None:
        request_id = command.integer("request_id")
        total_bytes = command.integer("bytes")
        stripes = command.integer("stripes", minimum=1, maximum=STRIPES_MAX)
        size = _Size(command.integer("context_tokens"), command.integer("output_tokens", minimum=1))
        marks = command.increasing("marks", size.output_tokens)
        if request_id in self._expected or request_id in self._batch:
            self._channel.emit("rejected", request_id=request_id, error="the request is already queued or running")
            return
        if not self._batch.fits(*size):
            self._receiver.refuse(request_id)
            self._received.discard(request_id)
            error = f"{size.context_tokens} + {size.output_tokens} tokens exceed the KV memory"
            self._channel.emit("rejected", request_id=request_id, error=error)
            return
        self._expected[request_id] = _Announced(size, marks)
        self._receiver.expect(request_id, total_bytes, stripes)
        if request_id in self._received and self._receiver.holds(request_id):
            self._offer(request_id)
        elif total_bytes == 0:
            now_s = self._loop.clock()
            self._on_received(request_id, now_s, now_s, 0)

    def cancel(self, command: Command) -> None:
        request_id = command.integer("request_id")
        known = self._expected.pop(request_id, None) is not None or request_id in self._batch
        self._received.discard(request_id)
        self._receiver.refuse(request_id)
        self._apply(self._batch.cancel(request_id, self._loop.clock()))
        self._channel.emit("cancelled", request_id=request_id, known=known)

    def _on_received(self, request_id: int, first_byte_s: float, at_s: float, total_bytes: int) -> None:
        self._channel.emit(
            "received",
            request_id=request_id,
            first_byte_s=stamp(first_byte_s),
            at_s=stamp(at_s),
            bytes=total_bytes,
        )
        self._received.add(request_id)
        if request_id in self._expected:
            self._offer(request_id)

    def _on_error(self, error: str, request_id: int | None, peer: str) -> None:
        self._channel.emit("wire_error", request_id=request_id, error=error, peer=peer)

    def _offer(self, request_id: int) -> None:
        announced = self._expected.pop(request_id)
        self._received.discard(request_id)
        self._receiver.forget(request_id)
        self._apply(self._batch.offer(request_id, *announced.size, self._loop.clock(), announced.marks))

    def _on_boundary(self) -> None:
        self._timer = None
        self._apply(self._batch.advance(self._loop.clock()))

    def _apply(self, events: list[Event]) -> None:
        """Report the events of the batch, stamped with the real clock, and set the timer to its next boundary."""
        at_s = stamp(self._loop.clock())
        for event in events:
            match event:
                case StepEnded():
                    self._stamps.append(at_s)
                case FirstToken(request_id):
                    self._channel.emit("first_token", request_id=request_id, at_s=at_s)
                case MarkedToken(request_id):
                    self._channel.emit("token_block", request_id=request_id, at_s=at_s)
                case Admitted(request_id):
                    self._channel.emit("admitted", request_id=request_id, at_s=at_s)
                case Finished(request_id, _, first_step, token_s):
                    stamps_s = self._stamps.ends_s(first_step, len(token_s))
                    self._channel.emit("finished", request_id=request_id, at_s=at_s, token_s=stamps_s)
                case Rejected(request_id, _, error):
                    self._channel.emit("rejected", request_id=request_id, error=error)
        boundary_s = self._batch.next_boundary_s
        self._stamps.forget_before(self._batch.oldest_step)
        if self._timer is not None and self._timer.when_s != boundary_s:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and boundary_s is not None:
            self._timer = self._loop.call_at(boundary_s, self._on_boundary)


def main() -> int:
    parser = argument_parser("decode", __doc__)
    parser.add_argument(
        "--step-table", default=DEFAULT_STEP_TABLE, help="batch size : seconds, ... (default: %(default)s)"
    )
    parser.add_argument("--batch-slots", type=int, default=DEFAULT_SLOTS, help="default: %(default)s")
    parser.add_argument("--kv-memory-tokens", type=int, default=DEFAULT_MEMORY_TOKENS, help="default: %(default)s")
    parser.add_argument("--time-dilation", type=float, default=1.0, help="multiplies every step time")
    parser.add_argument(
        "--stripe-buffer-bytes", type=int, default=None, help="SO_RCVBUF of each stripe (default: automatic)"
    )
    parser.add_argument(
        "--zones", type=int, default=1, help="prefill workers that an engine's memory is for (default: %(default)s)"
    )
    add_engine_arguments(parser)
    add_realtime_argument(parser)
    arguments = parser.parse_args()
    channel = ControlChannel("decode", arguments.name, arguments.control)
    try:
        steps = StepTable.parse(arguments.step_table, arguments.time_dilation)
        batch = Batch(steps.step_s, arguments.batch_slots, arguments.kv_memory_tokens)
    except ValueError as error:
        channel.fatal(str(error))
    listener = channel.listen(arguments.address or "127.0.0.1", arguments.port)
    receiver_for: ReceiverFor
    if arguments.engine == "mooncake":
        from workers import engine_receiver

        slots = (arguments.slot_bytes, arguments.zones)
        engine = channel.start_engine(arguments, StreamOptions(), engine_receiver.memory_bytes(*slots))
        receiver_for = partial(engine_receiver.EngineReceiver, channel.loop, listener, engine, *slots)
    else:
        channel.set_realtime_priority(arguments.realtime_priority)
        channel.drop_privileges()
        receiver_for = partial(Receiver, channel.loop, listener, stripe_buffer_bytes=arguments.stripe_buffer_bytes)
    worker = DecodeWorker(channel, batch, receiver_for)
    return channel.run(listener.getsockname()[1], {"expect": worker.expect, "cancel": worker.cancel})


if __name__ == "__main__":
    sys.exit(main())
