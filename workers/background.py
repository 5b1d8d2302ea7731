"""The background worker: sends background flows to other background workers and receives theirs.

    python -m workers.background --name b2 --control PATH --address 10.0.0.9 --port 7002

Every background worker is a sink on its port (TCP and UDP) and, on command, a source.
"""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

from workers.command import CommandError
from workers.control_channel import ControlChannel, argument_parser, stamp
from workers.flows import Flow, FlowStats, TcpFlow, UdpFlow
from workers.sink import Sink
from workers.streams import StreamOptions, add_stream_arguments

if TYPE_CHECKING:
    from workers.command import Command

CONNECTIONS_MAX = 1024


class BackgroundWorker:
    """The flows of one instance, by the flow ids of the driver."""

    def __init__(self, channel: ControlChannel, sink: Sink, options: StreamOptions) -> None:
        self._channel = channel
        self._sink = sink
        self._options = options
        self._flows: dict[int, Flow] = {}
        self._sent_bytes = 0  # by stopped and failed flows

    def start_flow(self, command: Command) -> None:
        flow_id = command.integer("flow_id")
        if flow_id in self._flows:
            raise CommandError(f"flow_start: flow {flow_id} is already running")
        address = command.address("address")
        connections = command.integer("connections", minimum=1, maximum=CONNECTIONS_MAX)
        rate_bps = command.rate_bps("rate_bps")
        protocol = command.choice("protocol", ("tcp", "udp"))

        def failed(error: str) -> None:
            flow = self._flows.pop(flow_id)
            self._sent_bytes += flow.sent_bytes
            self._channel.emit("flow_failed", flow_id=flow_id, error=error)

        try:
            if protocol == "tcp":
                self._flows[flow_id] = TcpFlow(
                    self._channel.loop, address, connections, rate_bps, failed, self._options, flow_id
                )
            elif rate_bps is None:
                raise CommandError("flow_start: a udp flow needs a rate_bps")
            else:
                self._flows[flow_id] = UdpFlow(
                    self._channel.loop, address, connections, rate_bps, failed, self._options, flow_id
                )
        except OSError as error:
            self._channel.emit("flow_failed", flow_id=flow_id, error=error.strerror or str(error))

    def stop_flow(self, command: Command) -> None:
        flow_id = command.integer("flow_id")
        flow = self._flows.pop(flow_id, None)
        if flow is None:
            raise CommandError(f"flow_stop: no flow {flow_id} is running")
        stats: FlowStats = flow.stop()
        self._sent_bytes += stats.sent_bytes
        self._channel.emit(
            "flow_stopped",
            flow_id=flow_id,
            bytes=stats.sent_bytes,
            started_s=stamp(stats.started_s),
            at_s=stamp(stats.at_s),
            source_ports=stats.source_ports,
            retransmitted=stats.retransmitted,
        )

    def report(self, _command: Command) -> None:
        sent_bytes = self._sent_bytes + sum(flow.sent_bytes for flow in self._flows.values())
        self._channel.emit("report", sent_bytes=sent_bytes, received_bytes=self._sink.count())


def main() -> int:
    parser = argument_parser("background", __doc__)
    add_stream_arguments(parser)
    arguments = parser.parse_args()
    channel = ControlChannel("background", arguments.name, arguments.control)
    options = StreamOptions.of(arguments)
    channel.check(options)
    listener = channel.listen(arguments.address or "127.0.0.1", arguments.port)
    address, port = listener.getsockname()
    datagrams = channel.listen(address, port, socket.SOCK_DGRAM)
    channel.drop_privileges(options.congestion_control)
    worker = BackgroundWorker(channel, Sink(channel.loop, listener, datagrams), options)
    handlers = {"flow_start": worker.start_flow, "flow_stop": worker.stop_flow, "report": worker.report}
    return channel.run(port, handlers)


if __name__ == "__main__":
    sys.exit(main())
