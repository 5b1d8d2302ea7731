"""Rules and groups as bytes of OpenFlow 1.3, encoded and decoded by both drivers' own parsers."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from controller.driver import DRIVERS, prepare
from controller.flow_tables import Bundle, Drop, EtherType, Group, Match, Output, Rule, ToGroup, plan_switch
from controller.messages import change, install, wipe
from topologies import FabricSpec, build_fattree

pytestmark = pytest.mark.xdist_group("frameworks")

OPENFLOW_1_3 = 4
GROUP_MOD_HEADER_B = 16


class Wire:
    """A driver's encoder and decoder around a connection that is not there."""

    def __init__(self, driver: str) -> None:
        prepare(driver)
        self.datapath = import_module(f"{driver}.ofproto.ofproto_protocol").ProtocolDesc(OPENFLOW_1_3)
        self.ofproto, self.parser = self.datapath.ofproto, self.datapath.ofproto_parser
        self._decode = import_module(f"{driver}.ofproto.ofproto_parser").msg

    def encode(self, message: Any) -> bytes:
        message.set_xid(1)
        message.serialize()
        return bytes(message.buf)

    def flow(self, rule: Rule) -> Any:
        """The flow modification that a switch would read."""
        (message,) = install(self.datapath, [rule])
        wire = self.encode(message)
        return self._decode(self.datapath, OPENFLOW_1_3, self.ofproto.OFPT_FLOW_MOD, len(wire), 1, wire)


@pytest.fixture(params=DRIVERS)
def wire(request: pytest.FixtureRequest) -> Wire:
    return Wire(request.param)


def test_a_route_matches_the_protocol_and_the_prefix_of_its_target(wire: Wire) -> None:
    ip = wire.flow(Rule(124, Match(EtherType.IPV4, "10.0.1.0/24"), Output(3)))
    assert (ip.command, ip.table_id, ip.priority) == (wire.ofproto.OFPFC_ADD, 0, 124)
    assert dict(ip.match.items()) == {"eth_type": 0x0800, "ipv4_dst": ("10.0.1.0", "255.255.255.0")}
    (instruction,) = ip.instructions
    assert [action.port for action in instruction.actions] == [3]
    arp = wire.flow(Rule(124, Match(EtherType.ARP, "10.0.1.0/24"), Output(3)))
    assert dict(arp.match.items()) == {"eth_type": 0x0806, "arp_tpa": ("10.0.1.0", "255.255.255.0")}


def test_table_miss_matches_everything_and_does_nothing(wire: Wire) -> None:
    miss = wire.flow(Rule(0, None, Drop()))
    assert (miss.priority, dict(miss.match.items()), miss.instructions) == (0, {}, [])


def test_a_bundle_hashes_symmetrically_by_highest_random_weight_from_its_basis(wire: Wire) -> None:
    flow = wire.flow(Rule(108, Match(EtherType.IPV4, "10.0.0.0/8"), Bundle((3, 4), 0x2001)))
    (action,) = flow.instructions[0].actions
    assert type(action).__name__ == "NXActionBundle"
    assert (action.algorithm, action.fields, action.basis, action.slaves) == (1, 1, 0x2001, [3, 4])
    assert action.slave_type == 2  # NXM_OF_IN_PORT: the members are ports


def test_a_group_selects_among_buckets_that_watch_their_own_port(wire: Wire) -> None:
    (message,) = install(wire.datapath, [Group(1, (3, 4))])
    assert (message.command, message.type) == (wire.ofproto.OFPGC_ADD, wire.ofproto.OFPGT_SELECT)
    encoded, offset, seen = wire.encode(message), GROUP_MOD_HEADER_B, []
    while offset < len(encoded):
        bucket = wire.parser.OFPBucket.parser(encoded, offset)
        seen.append((bucket.weight, bucket.watch_port, [action.port for action in bucket.actions]))
        offset += bucket.len
    assert seen == [(1, 3, [3]), (1, 4, [4])]
    flow = wire.flow(Rule(108, Match(EtherType.IPV4, "10.0.0.0/8"), ToGroup(1)))
    assert [action.group_id for action in flow.instructions[0].actions] == [1]


def test_a_change_writes_what_differs_and_removes_exactly_what_is_gone(wire: Wire) -> None:
    def up(*ports: int) -> Rule:
        return Rule(108, Match(EtherType.IPV4, "10.0.0.0/8"), Bundle(ports, 7))

    detour = Rule(116, Match(EtherType.IPV4, "10.1.0.0/16"), Bundle((3,), 7))
    group, miss = Group(1, (3, 4)), Rule(0, None, Drop())
    assert change(wire.datapath, [group, up(3, 4), miss], [group, up(3, 4), miss]) == []
    (added,) = change(wire.datapath, [up(3, 4), miss], [up(3, 4), detour, miss])
    assert (added.command, added.priority) == (wire.ofproto.OFPFC_ADD, 116)
    rewritten, removed = change(wire.datapath, [up(3, 4), detour], [up(3, 5)])
    assert (rewritten.command, rewritten.priority) == (wire.ofproto.OFPFC_ADD, 108)
    assert (removed.command, removed.priority) == (wire.ofproto.OFPFC_DELETE_STRICT, 116)
    assert dict(removed.match.items()) == {"eth_type": 0x0800, "ipv4_dst": ("10.1.0.0", "255.255.0.0")}
    assert wire.encode(removed)


def test_wiping_deletes_all_flows_then_all_groups_then_waits(wire: Wire) -> None:
    flows, groups, barrier = wipe(wire.datapath)
    assert (flows.command, flows.table_id) == (wire.ofproto.OFPFC_DELETE, wire.ofproto.OFPTT_ALL)
    assert (groups.command, groups.group_id) == (wire.ofproto.OFPGC_DELETE, wire.ofproto.OFPG_ALL)
    assert type(barrier).__name__ == "OFPBarrierRequest"
    for message in (flows, groups, barrier):
        assert wire.encode(message)


@pytest.mark.parametrize("ecmp", ["bundle", "select"])
def test_no_message_of_any_plan_floods_or_calls_the_controller(wire: Wire, ecmp: str) -> None:
    fabric = build_fattree(FabricSpec())
    for switch in fabric.switches:
        for rule in plan_switch(fabric, switch.dpid, ecmp=ecmp):
            if isinstance(rule, Rule):
                for instruction in wire.flow(rule).instructions:
                    for action in instruction.actions:
                        assert getattr(action, "port", 0) <= wire.ofproto.OFPP_MAX


def test_both_drivers_write_the_same_bytes() -> None:
    fabric = build_fattree(FabricSpec())
    ryu, os_ken = (Wire(driver) for driver in DRIVERS)
    for switch in fabric.switches:
        plan = plan_switch(fabric, switch.dpid)
        assert [ryu.encode(m) for m in install(ryu.datapath, plan)] == [
            os_ken.encode(m) for m in install(os_ken.datapath, plan)
        ]
