"""The forwarding app: sends every switch its plan, knows when it has taken effect, and plans anew around cut cables.

Nothing here decides on a route (`plan`) or on a byte of OpenFlow (`messages`). Loads in this project's launcher and in
plain `ryu-manager controller/forwarding.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from controller.context import CONTEXT_NAME, ControllerContext
from controller.flow_tables import Group, Rule, plan_switch
from controller.messages import change, install, wipe
from controller.openflow_api import (
    CONFIG_DISPATCHER,
    DEAD_DISPATCHER,
    MAIN_DISPATCHER,
    App,
    hub,
    ofp_event,
    ofproto_v1_3,
    on,
)

GATHERING_S = 0.05
"""From the first word of a cut or mended cable to the new plans: both of its ends speak, and cables go in bunches."""


@dataclass
class SwitchConnection:
    """A switch that was sent a plan: what it should hold, and the transaction of the barrier that closed it."""

    datapath: Any
    plan: tuple[Rule | Group, ...]
    barrier: int = 0


class ForwardingApp(App):
    """Programs a switch whenever it connects; programming it again gives the same tables."""

    OFP_VERSIONS: ClassVar[list[int]] = [ofproto_v1_3.OFP_VERSION]
    _CONTEXTS: ClassVar[dict[str, type]] = {CONTEXT_NAME: ControllerContext}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._context: ControllerContext = kwargs[CONTEXT_NAME]
        self._connections: dict[int, SwitchConnection] = {}
        self._down: dict[int, set[int]] = {}  # dpid -> ports that it calls down
        self._gathering = False

    @on(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def program(self, event: Any) -> None:
        """Replace all that the switch holds by its plan, closed by a barrier."""
        datapath, dpid = event.msg.datapath, event.msg.datapath_id
        self._context.programmed.discard(dpid)
        if dpid not in self._context.fabric.switch_by_dpid:
            self.logger.warning("a switch that the fabric does not have is ignored: dpid %#x", dpid)
            return
        connection = SwitchConnection(datapath, self._plan(dpid))
        self._connections[dpid] = connection
        self._down[dpid] = set()
        self._send(connection, [*wipe(datapath), *install(datapath, connection.plan)])

    @on(ofp_event.EventOFPPortDescStatsReply, CONFIG_DISPATCHER)
    def note_ports(self, event: Any) -> None:
        """What the ports of a switch that has just connected are up to."""
        self._note(event.msg.datapath, event.msg.body)

    @on(ofp_event.EventOFPPortStatus, CONFIG_DISPATCHER, MAIN_DISPATCHER)
    def note_port(self, event: Any) -> None:
        """A port went up or down, or away."""
        message = event.msg
        gone = message.reason == message.datapath.ofproto.OFPPR_DELETE
        self._note(message.datapath, [message.desc], gone=gone)

    @on(ofp_event.EventOFPBarrierReply, CONFIG_DISPATCHER, MAIN_DISPATCHER)
    def mark_programmed(self, event: Any) -> None:
        """The closing barrier of this connection came back: the plan is in force."""
        connection = self._connections.get(event.msg.datapath.id)
        if connection and (connection.datapath, connection.barrier) == (event.msg.datapath, event.msg.xid):
            self._context.programmed.add(event.msg.datapath.id)

    @on(ofp_event.EventOFPErrorMsg, CONFIG_DISPATCHER, MAIN_DISPATCHER)
    def refuse(self, event: Any) -> None:
        """A switch that refuses any message is not programmed, whatever its barriers say."""
        datapath, message = event.msg.datapath, event.msg
        self.logger.error("switch %#x refused a message: type %d code %d", datapath.id or 0, message.type, message.code)
        self._drop(datapath)

    @on(ofp_event.EventOFPPacketIn, CONFIG_DISPATCHER, MAIN_DISPATCHER)
    def count(self, event: Any) -> None:
        """No rule of ours sends packets here; one that arrives is counted for all to see, and answered by nothing."""
        self._context.packet_ins += 1

    @on(ofp_event.EventOFPStateChange, DEAD_DISPATCHER)
    def forget(self, event: Any) -> None:
        """A connection is gone; a newer one of the same switch may already stand."""
        self._drop(event.datapath)

    def _drop(self, datapath: Any) -> None:
        connection = self._connections.get(datapath.id)
        if connection is not None and connection.datapath is datapath:
            del self._connections[datapath.id]
            self._context.programmed.discard(datapath.id)

    def _send(self, connection: SwitchConnection, messages: Iterable[Any]) -> None:
        """Send messages and a barrier, whose reply says that they are in force."""
        datapath = connection.datapath
        barrier = datapath.ofproto_parser.OFPBarrierRequest(datapath)
        connection.barrier = datapath.set_xid(barrier)
        for message in (*messages, barrier):
            datapath.send_msg(message)

    def _plan(self, dpid: int) -> tuple[Rule | Group, ...]:
        config = self._context.config
        return plan_switch(self._context.fabric, dpid, ecmp=config.ecmp, seed=config.seed, cut=self._context.cut)

    def _note(self, datapath: Any, ports: Iterable[Any], *, gone: bool = False) -> None:
        """Remember which ports are down; plan anew, soon, if that cuts or mends a cable."""
        down = self._down.get(datapath.id)
        if down is None:
            return
        for port in ports:
            if gone or port.state & datapath.ofproto.OFPPS_LINK_DOWN:
                down.add(port.port_no)
            else:
                down.discard(port.port_no)
        if self._cut() != self._context.cut and not self._gathering:
            self._gathering = True
            hub.spawn(self._plan_anew)

    def _cut(self) -> frozenset[int]:
        """Both directions of every cable that a switch at one of its ends calls down."""
        fabric = self._context.fabric
        return frozenset(
            index
            for dpid, ports in self._down.items()
            for link in fabric.links_from[fabric.switch_by_dpid[dpid].name]
            if link.source_port in ports
            for index in (link.index, fabric.link_index[link.target, link.source])
        )

    def _plan_anew(self) -> None:
        """Send every switch what is different; one that is not programmed until then gets its plan as it was."""
        hub.sleep(GATHERING_S)
        self._gathering = False
        self._context.cut = self._cut()
        for dpid, connection in list(self._connections.items()):
            plan = self._plan(dpid)
            if plan != connection.plan:
                messages = change(connection.datapath, connection.plan, plan)
                connection.plan = plan
                self._context.programmed.discard(dpid)
                self._send(connection, messages)
