"""Rules and groups as OpenFlow 1.3 messages, for any pair of `ofproto` and `parser` modules with Ryu's API.

`flow_tables` computes the rules, `forwarding` sends the messages.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from controller.flow_tables import Action, Bundle, EtherType, Group, Match, Output, Rule, ToGroup

NX_HASH_FIELDS_SYMMETRIC_L4 = 1
NX_BD_ALG_HRW = 1
NXM_OF_IN_PORT = 0x00000002
"""Of Open vSwitch's nicira-ext.h; see `bundle` in ovs-actions(7)."""


def wipe(datapath: Any) -> list[Any]:
    """The messages that delete all flows and groups of a switch, with a barrier."""
    ofproto, parser = datapath.ofproto, datapath.ofproto_parser
    return [
        parser.OFPFlowMod(
            datapath,
            table_id=ofproto.OFPTT_ALL,
            command=ofproto.OFPFC_DELETE,
            out_port=ofproto.OFPP_ANY,
            out_group=ofproto.OFPG_ANY,
            match=parser.OFPMatch(),
        ),
        parser.OFPGroupMod(datapath, ofproto.OFPGC_DELETE, ofproto.OFPGT_ALL, ofproto.OFPG_ALL, []),
        parser.OFPBarrierRequest(datapath),
    ]


def install(datapath: Any, plan: Iterable[Rule | Group]) -> list[Any]:
    """The messages that add a plan, in its order. Groups are added whole: inserting buckets breaks dp_hash."""
    return [_group_mod(datapath, entry) if isinstance(entry, Group) else _flow_mod(datapath, entry) for entry in plan]


def change(datapath: Any, before: Iterable[Rule | Group], after: Iterable[Rule | Group]) -> list[Any]:
    """The messages that turn one plan of a switch into another: new and changed rules, then removals.

    Rules only: the groups of a plan do not depend on `cut`.
    """
    old = {(entry.priority, entry.match): entry for entry in before if isinstance(entry, Rule)}
    new = {(entry.priority, entry.match): entry for entry in after if isinstance(entry, Rule)}
    written = [_flow_mod(datapath, rule) for place, rule in new.items() if old.get(place) != rule]
    return written + [_removal(datapath, rule) for place, rule in old.items() if place not in new]


def _removal(datapath: Any, rule: Rule) -> Any:
    ofproto, parser = datapath.ofproto, datapath.ofproto_parser
    return parser.OFPFlowMod(
        datapath,
        command=ofproto.OFPFC_DELETE_STRICT,
        priority=rule.priority,
        out_port=ofproto.OFPP_ANY,
        out_group=ofproto.OFPG_ANY,
        match=_match(parser, rule.match),
    )


def _flow_mod(datapath: Any, rule: Rule) -> Any:
    ofproto, parser = datapath.ofproto, datapath.ofproto_parser
    actions = _actions(parser, ofproto, rule.action)
    return parser.OFPFlowMod(
        datapath,
        priority=rule.priority,
        match=_match(parser, rule.match),
        instructions=[parser.OFPInstructionActions(ofproto.OFPIT_APPLY_ACTIONS, actions)] if actions else [],
    )


def _group_mod(datapath: Any, group: Group) -> Any:
    ofproto, parser = datapath.ofproto, datapath.ofproto_parser
    buckets = [
        parser.OFPBucket(
            weight=1,
            watch_port=port,
            watch_group=ofproto.OFPG_ANY,
            actions=[parser.OFPActionOutput(port)],
        )
        for port in group.ports
    ]
    return parser.OFPGroupMod(datapath, ofproto.OFPGC_ADD, ofproto.OFPGT_SELECT, group.group_id, buckets)


def _match(parser: Any, match: Match | None) -> Any:
    if match is None:
        return parser.OFPMatch()
    network = ipaddress.ip_network(match.prefix)
    field = "ipv4_dst" if match.ether_type == EtherType.IPV4 else "arp_tpa"
    target = (str(network.network_address), str(network.netmask))
    return parser.OFPMatch(eth_type=int(match.ether_type), **{field: target})


def _actions(parser: Any, ofproto: Any, action: Action) -> list[Any]:
    """The OpenFlow actions; an empty list drops the packet."""
    if isinstance(action, Output):
        return [parser.OFPActionOutput(action.port)]
    if isinstance(action, ToGroup):
        return [parser.OFPActionGroup(action.group_id)]
    if isinstance(action, Bundle):
        return [
            parser.NXActionBundle(
                algorithm=NX_BD_ALG_HRW,
                fields=NX_HASH_FIELDS_SYMMETRIC_L4,
                basis=action.basis,
                slave_type=NXM_OF_IN_PORT,
                n_slaves=len(action.ports),
                ofs_nbits=0,
                dst=0,
                slaves=list(action.ports),
            )
        ]
    return []
