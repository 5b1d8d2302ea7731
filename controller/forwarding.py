"""The forwarding app: sends every switch its plan and knows when it has taken effect.

Nothing here decides on a route (`plan`) or on a byte of OpenFlow (`messages`). Loads in this project's launcher and in
plain `ryu-manager controller/forwarding.py`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from controller.context import CONTEXT_NAME, ControllerContext
from controller.messages import install, wipe
from controller.plan import plan_switch
from controller.seam import CONFIG_DISPATCHER, DEAD_DISPATCHER, MAIN_DISPATCHER, App, ofp_event, ofproto_v1_3, on


class Forwarding(App):
    """Programs a switch whenever it connects; programming it again gives the same tables."""

    OFP_VERSIONS: ClassVar[list[int]] = [ofproto_v1_3.OFP_VERSION]
    _CONTEXTS: ClassVar[dict[str, type]] = {CONTEXT_NAME: ControllerContext}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._context: ControllerContext = kwargs[CONTEXT_NAME]
        self._barriers: dict[int, tuple[Any, int]] = {}  # dpid -> connection, transaction of the closing barrier

    @on(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def program(self, event: Any) -> None:
        """Replace all that the switch holds by its plan, closed by a barrier."""
        datapath, dpid = event.msg.datapath, event.msg.datapath_id
        self._context.programmed.discard(dpid)
        if dpid not in self._context.fabric.switch_by_dpid:
            self.logger.warning("a switch that the fabric does not have is ignored: dpid %#x", dpid)
            return
        config = self._context.config
        plan = plan_switch(self._context.fabric, dpid, ecmp=config.ecmp, seed=config.seed)
        barrier = datapath.ofproto_parser.OFPBarrierRequest(datapath)
        self._barriers[dpid] = (datapath, datapath.set_xid(barrier))
        for message in (*wipe(datapath), *install(datapath, plan), barrier):
            datapath.send_msg(message)

    @on(ofp_event.EventOFPBarrierReply, CONFIG_DISPATCHER, MAIN_DISPATCHER)
    def mark_programmed(self, event: Any) -> None:
        """The closing barrier of this connection came back: the plan is in force."""
        datapath = event.msg.datapath
        if self._barriers.get(datapath.id) == (datapath, event.msg.xid):
            self._context.programmed.add(datapath.id)

    @on(ofp_event.EventOFPErrorMsg, CONFIG_DISPATCHER, MAIN_DISPATCHER)
    def refuse(self, event: Any) -> None:
        """A switch that refuses any message is not programmed, whatever its barriers say."""
        datapath, message = event.msg.datapath, event.msg
        self.logger.error("switch %#x refused a message: type %d code %d", datapath.id or 0, message.type, message.code)
        if self._barriers.get(datapath.id, (None, 0))[0] is datapath:
            del self._barriers[datapath.id]
            self._context.programmed.discard(datapath.id)

    @on(ofp_event.EventOFPPacketIn, CONFIG_DISPATCHER, MAIN_DISPATCHER)
    def count(self, event: Any) -> None:
        """No rule of ours sends packets here; one that arrives is counted for all to see, and answered by nothing."""
        self._context.packet_ins += 1

    @on(ofp_event.EventOFPStateChange, DEAD_DISPATCHER)
    def forget(self, event: Any) -> None:
        """A connection is gone; a newer one of the same switch may already stand."""
        datapath = event.datapath
        if self._barriers.get(datapath.id, (None, 0))[0] is datapath:
            del self._barriers[datapath.id]
            self._context.programmed.discard(datapath.id)
