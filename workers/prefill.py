"""The prefill worker: prefills done by timer, in a FIFO or at once, and KV transfers to decode workers.

    python -m workers.prefill --name h0 --control PATH [--address IP] [--congestion-control cubic] ...

`--engine mooncake` has Mooncake's transfer engine move the bytes instead of our own sockets. Seconds in commands are
wall seconds; the driver applies time dilation. Transfers run concurrently with each other and with prefills.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING

from workers.connections import ConnectionPool
from workers.control_channel import ControlChannel, add_realtime_argument, argument_parser, stamp
from workers.outbound import Early, Sender, Sent, SocketSender
from workers.streams import StreamOptions, add_engine_arguments, add_stream_arguments
from workers.wire import STRIPES_MAX

if TYPE_CHECKING:
    from workers.command import Command


class PrefillWorker:
    """Prefills on an absolute schedule: a late timer delays only its own event. Queued ones run one at a time."""

    def __init__(self, channel: ControlChannel, sender: Sender) -> None:
        self._channel = channel
        self._loop = channel.loop
        self._sender = sender
        self._queue: deque[tuple[int, float, float]] = deque()  # request, seconds, arrival
        self._free_s = 0.0
        self._busy = False
        self._running: dict[int, tuple[float, float]] = {}  # start and end by request

    def prefill(self, command: Command) -> None:
        self._queue.append((command.integer("request_id"), command.seconds("prefill_s"), self._loop.clock()))
        if not self._busy:
            self._start_next()

    def prefill_at_once(self, command: Command) -> None:
        """Start beside whatever is running."""
        request_id, prefill_s, started_s = (
            command.integer("request_id"),
            command.seconds("prefill_s"),
            self._loop.clock(),
        )
        self._channel.emit("prefill_started", request_id=request_id, at_s=stamp(started_s))
        self._running[request_id] = started_s, started_s + prefill_s
        self._loop.call_at(started_s + prefill_s, lambda: self._report(request_id, started_s))

    def transfer(self, command: Command) -> None:
        """`overlap`: the share of the bytes that may leave before the prefill of the request ends, if it runs."""
        request_id = command.integer("request_id")
        total_bytes = command.integer("bytes")
        overlap = command.share("overlap")
        early = Early(overlap, *self._running[request_id]) if overlap and request_id in self._running else None

        def done(sent: Sent) -> None:
            facts = sent._asdict() | {"started_s": stamp(sent.started_s), "at_s": stamp(sent.at_s)}
            self._channel.emit("transferred", request_id=request_id, bytes=total_bytes, **facts)

        def failed(error: str) -> None:
            self._channel.emit("transfer_failed", request_id=request_id, error=error)

        self._sender.send(
            request_id,
            command.address("address"),
            total_bytes,
            command.integer("stripes", minimum=1, maximum=STRIPES_MAX),
            command.seconds("deadline_s"),
            done,
            failed,
            early,
        )

    def connect(self, command: Command) -> None:
        """Open persistent connections to all addresses before the first transfer."""

        def done() -> None:
            self._channel.emit("connected")

        def failed(error: str) -> None:
            self._channel.emit("connect_failed", error=error)

        stripes = command.integer("stripes", minimum=1, maximum=STRIPES_MAX)
        self._sender.open(command.addresses("addresses"), stripes, done, failed)

    def _start_next(self) -> None:
        request_id, prefill_s, arrival_s = self._queue.popleft()
        started_s = max(self._free_s, arrival_s)
        self._free_s = started_s + prefill_s
        self._busy = True
        self._running[request_id] = started_s, self._free_s
        self._channel.emit("prefill_started", request_id=request_id, at_s=stamp(started_s))
        self._loop.call_at(self._free_s, lambda: self._finish(request_id, started_s))

    def _report(self, request_id: int, started_s: float) -> None:
        at_s = self._loop.clock()
        self._running.pop(request_id, None)
        self._channel.emit("prefilled", request_id=request_id, started_s=stamp(started_s), at_s=stamp(at_s))

    def _finish(self, request_id: int, started_s: float) -> None:
        self._report(request_id, started_s)
        self._busy = False
        if self._queue:
            self._start_next()


def main() -> int:
    parser = argument_parser("prefill", __doc__)
    add_stream_arguments(parser)
    parser.add_argument(
        "--persistent-connections",
        action="store_true",
        help="use the same connections for all transfers (default: new ones)",
    )
    add_engine_arguments(parser)
    add_realtime_argument(parser)
    arguments = parser.parse_args()
    channel = ControlChannel("prefill", arguments.name, arguments.control)
    options = StreamOptions.of(arguments)
    channel.check(options)
    sender: Sender
    if arguments.engine == "mooncake":
        from workers import engine_sender

        size = engine_sender.memory_bytes(arguments.slot_bytes)
        engine = channel.start_engine(arguments, options, size)
        sender = engine_sender.EngineSender(channel.loop, engine, options, arguments.slot_bytes, arguments.lanes)
    else:
        channel.set_realtime_priority(arguments.realtime_priority)
        channel.drop_privileges(options.congestion_control)
        sender = SocketSender(channel.loop, ConnectionPool(channel.loop, options, arguments.persistent_connections))
    worker = PrefillWorker(channel, sender)
    handlers = {
        "prefill": worker.prefill,
        "prefill_at_once": worker.prefill_at_once,
        "transfer": worker.transfer,
        "connect": worker.connect,
    }
    return channel.run(None, handlers)


if __name__ == "__main__":
    sys.exit(main())
