"""The telemetry app: asks every switch for its port counters, and publishes what they say of the links.

The arithmetic is `counters`', the document `cost_document`'s, the socket `oracle_socket`'s; here are the clock, the
requests and the replies. Loads in this project's launcher and in plain `ryu-manager controller/telemetry.py`.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar

from controller.context import CONTEXT_NAME, ControllerContext
from controller.cost_document import Instant, cost_document, one_line
from controller.counters import LinkCounters, PortCounters
from controller.oracle_socket import OracleSocket
from controller.seam import DEAD_DISPATCHER, MAIN_DISPATCHER, App, hub, ofp_event, ofproto_v1_3, on

SILENCE_S = 1.0
"""A switch that has not answered for so long is asked again; until then one request is under way at a time, so that a
switch that stops reading cannot fill the queue towards it and stall the sweep."""

ROUND_TRIPS = 2000
"""Of so many of the last polls the document tells the round trip: five seconds of 20 switches every 50 ms."""


@dataclass
class Poll:
    """A connected switch, and the request that it has not answered yet."""

    datapath: Any
    request: int | None = None
    requested_s: float = 0.0


class Telemetry(App):
    """Sweeps the counters every `poll_s`. Whoever asks gets what is known then, as old as its oldest sample."""

    OFP_VERSIONS: ClassVar[list[int]] = [ofproto_v1_3.OFP_VERSION]
    _CONTEXTS: ClassVar[dict[str, type]] = {CONTEXT_NAME: ControllerContext}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._context: ControllerContext = kwargs[CONTEXT_NAME]
        config = self._context.config
        self._counters = LinkCounters(
            self._context.fabric, rate_scale=config.rate_scale, poll_s=config.poll_s, ewma_s=config.ewma_s
        )
        self._polls: dict[int, Poll] = {}
        self._unanswered: set[int] = set()
        self._sequence = 1
        self._line: bytes | None = None
        self._round_trips_s: deque[float] = deque(maxlen=ROUND_TRIPS)
        self._socket = OracleSocket(config.oracle_socket, hub.spawn, self._latest)

    def start(self) -> None:
        """Start the event loop, the sweeps and the socket."""
        super().start()
        self.threads += [hub.spawn(self._sweep), hub.spawn(self._socket.serve)]

    def stop(self) -> None:
        """Take the socket away before the threads end, so that no reader mistakes a leftover for a live oracle."""
        self._socket.close()
        for thread in self.threads[1:]:
            hub.kill(thread)
        super().stop()

    @on(ofp_event.EventOFPStateChange, MAIN_DISPATCHER, DEAD_DISPATCHER)
    def connect_or_forget(self, event: Any) -> None:
        """Poll a switch from its handshake to its end; a newer connection replaces an older one."""
        datapath = event.datapath
        if event.state == MAIN_DISPATCHER:
            self._counters.disconnected(datapath.id)
            self._polls[datapath.id] = Poll(datapath)
        elif datapath.id in self._polls and self._polls[datapath.id].datapath is datapath:
            del self._polls[datapath.id]
            self._unanswered.discard(datapath.id)
            self._counters.disconnected(datapath.id)

    @on(ofp_event.EventOFPPortStatsReply, MAIN_DISPATCHER)
    def take_reply(self, event: Any) -> None:
        """Record the reply to the request under way; a late or repeated one says nothing new."""
        arrived_s = time.monotonic()
        message = event.msg
        dpid = message.datapath.id
        poll = self._polls.get(dpid)
        if poll is None or poll.datapath is not message.datapath or poll.request != message.xid:
            return
        ports = [
            PortCounters(entry.port_no, entry.rx_bytes, entry.tx_bytes, entry.duration_sec + entry.duration_nsec * 1e-9)
            for entry in message.body
        ]
        self._counters.record(dpid, ports, requested_s=poll.requested_s, arrived_s=arrived_s)
        self._line = None
        if message.flags & message.datapath.ofproto.OFPMPF_REPLY_MORE:
            return
        poll.request = None
        self._round_trips_s.append(arrived_s - poll.requested_s)
        self._unanswered.discard(dpid)

    def _sweep(self) -> None:
        poll_s = self._context.config.poll_s
        due_s = time.monotonic()
        while True:
            self._sequence += 1
            self._line = None
            for dpid, poll in list(self._polls.items()):
                if poll.request is None or time.monotonic() - poll.requested_s >= SILENCE_S:
                    self._ask(dpid, poll)
            due_s = max(due_s + poll_s, time.monotonic())
            hub.sleep(due_s - time.monotonic())

    def _ask(self, dpid: int, poll: Poll) -> None:
        datapath = poll.datapath
        request = datapath.ofproto_parser.OFPPortStatsRequest(datapath, 0, datapath.ofproto.OFPP_ANY)
        poll.request = datapath.set_xid(request)
        poll.requested_s = time.monotonic()
        self._unanswered.add(dpid)
        datapath.send_msg(request)

    def _latest(self) -> bytes:
        """The document as it is now, written when somebody asks: readers are far rarer than sweeps."""
        if self._line is None:
            context = self._context
            self._line = one_line(
                cost_document(
                    context.fabric,
                    context.config,
                    self._counters,
                    programmed=context.programmed,
                    packet_ins=context.packet_ins,
                    sequence=self._sequence,
                    now=Instant(time.monotonic(), time.time()),
                    round_trips_s=tuple(self._round_trips_s),
                )
            )
        return self._line
