"""The forwarding app: sends every switch its flow table, notes when it is in force, and reroutes around failed links.

Routes are computed by `flow_tables`, OpenFlow is encoded by `messages`. Runs in this project's launcher and in
`ryu-manager controller/forwarding.py`.
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

REPLAN_DELAY_S = 0.05
"""Seconds from the first report of a failed or restored link to the new plans: both ends report, and several links may
fail together."""


@dataclass
class SwitchConnection:
    """A connected switch: the plan that it was sent, and the transaction id of the barrier after that plan."""

    datapath: Any
    plan: tuple[Rule | Group, ...]
    barrier: int = 0


class ForwardingApp(App):
    """Programs every switch that connects. Programming a switch again gives the same tables."""

    OFP_VERSIONS: ClassVar[list[int]] = [ofproto_v1_3.OFP_VERSION]
    _CONTEXTS: ClassVar[dict[str, type]] = {CONTEXT_NAME: ControllerContext}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._context: ControllerContext = kwargs[CONTEXT_NAME]
        self._connections: dict[int, SwitchConnection] = {}
        self._down: dict[int, set[int]] = {}  # dpid -> ports that it reports as down
        self._replan_pending = False

    @on(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def program(self, event: Any) -> None:
        """Replace all rules and groups of the switch by its plan, followed by a barrier."""
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
        """Note the state of the ports of a switch that has just connected."""
        self._note(event.msg.datapath, event.msg.body)

    @on(ofp_event.EventOFPPortStatus, CONFIG_DISPATCHER, MAIN_DISPATCHER)
    def note_port(self, event: Any) -> None:
        """Note that a port went up or down, or was removed."""
        message = event.msg
        gone = message.reason == message.datapath.ofproto.OFPPR_DELETE
        self._note(message.datapath, [message.desc], gone=gone)

    @on(ofp_event.EventOFPBarrierReply, CONFIG_DISPATCHER, MAIN_DISPATCHER)
    def mark_programmed(self, event: Any) -> None:
        """The switch has answered the barrier after its plan: the plan is in force."""
        connection = self._connections.get(event.msg.datapath.id)
        if connection and (connection.datapath, connection.barrier) == (event.msg.datapath, event.msg.xid):
            self._context.programmed.add(event.msg.datapath.id)

    @on(ofp_event.EventOFPErrorMsg, CONFIG_DISPATCHER, MAIN_DISPATCHER)
    def refuse(self, event: Any) -> None:
        """A switch that refuses a message is not programmed, even if it answers its barrier."""
        datapath, message = event.msg.datapath, event.msg
        self.logger.error("switch %#x refused a message: type %d code %d", datapath.id or 0, message.type, message.code)
        self._drop(datapath)

    @on(ofp_event.EventOFPPacketIn, CONFIG_DISPATCHER, MAIN_DISPATCHER)
    def count(self, event: Any) -> None:
        """Count a packet sent to the controller. No rule sends one, so more than 0 is an error."""
        self._context.packet_ins += 1

    @on(ofp_event.EventOFPStateChange, DEAD_DISPATCHER)
    def forget(self, event: Any) -> None:
        """A connection has ended; the switch may already have a newer one."""
        self._drop(event.datapath)

    def _drop(self, datapath: Any) -> None:
        connection = self._connections.get(datapath.id)
        if connection is not None and connection.datapath is datapath:
            del self._connections[datapath.id]
            self._context.programmed.discard(datapath.id)

    def _send(self, connection: SwitchConnection, messages: Iterable[Any]) -> None:
        """Send messages and a barrier; the reply to the barrier means that they are in force."""
        datapath = connection.datapath
        barrier = datapath.ofproto_parser.OFPBarrierRequest(datapath)
        connection.barrier = datapath.set_xid(barrier)
        for message in (*messages, barrier):
            datapath.send_msg(message)

    def _plan(self, dpid: int) -> tuple[Rule | Group, ...]:
        config = self._context.config
        return plan_switch(self._context.fabric, dpid, ecmp=config.ecmp, seed=config.seed, cut=self._context.cut)

    def _note(self, datapath: Any, ports: Iterable[Any], *, gone: bool = False) -> None:
        """Note which ports are down; schedule new plans if a link has failed or is restored."""
        down = self._down.get(datapath.id)
        if down is None:
            return
        for port in ports:
            if gone or port.state & datapath.ofproto.OFPPS_LINK_DOWN:
                down.add(port.port_no)
            else:
                down.discard(port.port_no)
        if self._cut() != self._context.cut and not self._replan_pending:
            self._replan_pending = True
            hub.spawn(self._replan)

    def _cut(self) -> frozenset[int]:
        """Both directions of every link that the switch at one of its ends reports as down."""
        fabric = self._context.fabric
        return frozenset(
            index
            for dpid, ports in self._down.items()
            for link in fabric.links_from[fabric.switch_by_dpid[dpid].name]
            if link.source_port in ports
            for index in (link.index, fabric.link_index[link.target, link.source])
        )

    def _replan(self) -> None:
        """Send every connected switch the difference between its plan and the new one."""
        hub.sleep(REPLAN_DELAY_S)
        self._replan_pending = False
        self._context.cut = self._cut()
        for dpid, connection in list(self._connections.items()):
            plan = self._plan(dpid)
            if plan != connection.plan:
                messages = change(connection.datapath, connection.plan, plan)
                connection.plan = plan
                self._context.programmed.discard(dpid)
                self._send(connection, messages)
