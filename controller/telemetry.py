"""The telemetry app: polls the port counters of every switch and publishes the utilisation of the links.

Owns the clock and the connections. `port_stats` encodes requests and replies, `port_stats_tap` reads them past the
framework, `counters` computes utilisation, `cost_document` builds the document, `oracle_socket` serves it and `metrics`
is the Prometheus endpoint. Runs in this project's launcher and in `ryu-manager controller/telemetry.py`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from controller.context import CONTEXT_NAME, ControllerContext
from controller.cost_document import Instant, cost_document, one_line
from controller.counters import LinkCounters
from controller.metrics import FabricMetrics, metrics_page
from controller.openflow_api import (
    CONFIG_DISPATCHER,
    DEAD_DISPATCHER,
    App,
    at_once,
    call_at_once,
    get_event_loop,
    hub,
    ofp_event,
    ofproto_v1_3,
    on,
)
from controller.oracle_socket import OracleSocket
from controller.polls import PollStatistics
from controller.port_stats import Reply, request
from controller.port_stats_tap import PortStatsTap
from controller.schema import check_document

SILENCE_S = 1.0
"""A switch that has not answered for so long is asked again; until then it has one outstanding request at a time."""

METRICS_ADDRESS = "127.0.0.1"
TRANSACTIONS = 1 << 32
"""OpenFlow's transaction ids have 32 bits."""


@dataclass
class SwitchPoll:
    """A connected switch and its outstanding request."""

    dpid: int
    tap: Any = None
    request: int | None = None
    requested_s: float = 0.0


class TelemetryApp(App):
    """Polls all counters every `poll_s`. A reader gets the current document, which is as old as its oldest sample."""

    OFP_VERSIONS: ClassVar[list[int]] = [ofproto_v1_3.OFP_VERSION]
    _CONTEXTS: ClassVar[dict[str, type]] = {CONTEXT_NAME: ControllerContext}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._context: ControllerContext = kwargs[CONTEXT_NAME]
        config, fabric = self._context.config, self._context.fabric
        self._counters = LinkCounters(fabric, rate_scale=config.rate_scale, poll_s=config.poll_s)
        self._poll_statistics = PollStatistics(fabric.switch_by_dpid)
        self._polls: dict[int, SwitchPoll] = {}
        self._transaction = 0
        self._sequence = 1
        self._line: bytes | None = None
        self._checked: set[bool] = set()
        self._complete = False
        self._socket = OracleSocket(config.oracle_socket, hub.spawn, self._latest)

    def start(self) -> None:
        """Start the event loop, the polls, the socket and, if configured, the Prometheus endpoint."""
        super().start()
        call_at_once(ofp_event.EventOFPPortDescStatsReply, self.connect)
        self.threads += [hub.spawn(self._poll_all), hub.spawn(self._socket.serve)]
        if (port := self._context.config.prometheus_port) is not None:
            context = self._context
            metrics = FabricMetrics(
                context.fabric, self._counters, self._poll_statistics, context.programmed, time.monotonic
            )
            server = hub.WSGIServer((METRICS_ADDRESS, port), metrics_page(metrics))
            self.threads.append(hub.spawn(server.serve_forever))

    def stop(self) -> None:
        """Remove the socket before the threads end, so that no reader takes it for a live oracle."""
        self._socket.close()
        for thread in self.threads[1:]:
            hub.kill(thread)
        super().stop()

    @at_once(ofp_event.EventOFPPortDescStatsReply, CONFIG_DISPATCHER)
    def connect(self, event: Any) -> None:
        """Start polling a switch after the last message of its handshake; a newer connection replaces an older one."""
        datapath = event.msg.datapath
        if event.msg.flags & datapath.ofproto.OFPMPF_REPLY_MORE:
            return
        poll = SwitchPoll(datapath.id)
        poll.tap = PortStatsTap(datapath.socket, get_event_loop(), hub, lambda reply: self._take(poll, reply))
        datapath.socket = poll.tap
        self._counters.disconnected(datapath.id)
        self._polls[datapath.id] = poll

    @on(ofp_event.EventOFPStateChange, DEAD_DISPATCHER)
    def forget(self, event: Any) -> None:
        """A connection has ended; the switch may already have a newer one."""
        datapath = event.datapath
        if datapath.id in self._polls and self._polls[datapath.id].tap is datapath.socket:
            del self._polls[datapath.id]
            self._counters.disconnected(datapath.id)

    def _take(self, poll: SwitchPoll, reply: Reply) -> None:
        """Record the reply to the outstanding request; late and repeated replies are ignored."""
        arrived_s = time.monotonic()
        if poll.request != reply.transaction or self._polls.get(poll.dpid) is not poll:
            return
        self._counters.record(poll.dpid, reply.ports(), requested_s=poll.requested_s, arrived_s=arrived_s)
        self._line = None
        if not reply.more:
            poll.request = None
            self._poll_statistics.answered(poll.dpid, arrived_s - poll.requested_s)

    def _poll_all(self) -> None:
        poll_s = self._context.config.poll_s
        due_s = time.monotonic()
        while True:
            if not self._complete and len(self._context.programmed) == len(self._poll_statistics.switches):
                self._complete = True
                self._poll_statistics.restart()
            self._sequence += 1
            self._line = None
            for dpid in self._poll_statistics.switches:
                poll = self._polls.get(dpid)
                if poll is not None and (poll.request is None or time.monotonic() - poll.requested_s >= SILENCE_S):
                    self._ask(poll)
                else:
                    self._poll_statistics.missed(dpid)
            due_s = max(due_s + poll_s, time.monotonic())
            hub.sleep(due_s - time.monotonic())

    def _ask(self, poll: SwitchPoll) -> None:
        self._transaction = (self._transaction + 1) % TRANSACTIONS
        requested_s = time.monotonic()
        if poll.tap.send_now(request(self._transaction)):
            poll.request, poll.requested_s = self._transaction, requested_s
        else:
            self._poll_statistics.missed(poll.dpid)

    def _latest(self) -> bytes:
        """The current document, built on request: requests are much rarer than polls.

        The first document and the first complete one are checked against the schema; the others differ only in values.
        """
        if self._line is None:
            context = self._context
            document = cost_document(
                context.fabric,
                context.config,
                self._counters,
                programmed=context.programmed,
                packet_ins=context.packet_ins,
                sequence=self._sequence,
                now=Instant(time.monotonic(), time.time()),
                polls=self._poll_statistics,
                cut=context.cut,
            )
            if document["complete"] not in self._checked:
                check_document(document)
                self._checked.add(document["complete"])
            self._line = one_line(document)
        return self._line
