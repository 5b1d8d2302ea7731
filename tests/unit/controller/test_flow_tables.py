"""The plan of every switch, walked packet by packet in a fake flow table, against the fabric's own paths."""

from __future__ import annotations

import ipaddress
import itertools

import pytest

from controller.flow_tables import (
    Action,
    Bundle,
    Drop,
    EtherType,
    Group,
    Output,
    Rule,
    ToGroup,
    hash_basis,
    plan_switch,
)
from topologies import Fabric, FabricError, FabricSpec, Level, build_fattree, instance_ip

FABRICS = {
    64: FabricSpec(),
    128: FabricSpec(pods=4),
    256: FabricSpec(pods=2, racks_per_pod=4, servers_per_rack=4, aggregations_per_pod=4, cores_per_group=1),
    1024: FabricSpec(pods=4, racks_per_pod=4, servers_per_rack=8, aggregations_per_pod=2, cores_per_group=2),
}


class FakeSwitches:
    """Every switch of a fabric with its plan: longest prefix first, as a flow table with these priorities would."""

    def __init__(self, fabric: Fabric, ecmp: str = "bundle", cut: frozenset[int] = frozenset()) -> None:
        self.fabric = fabric
        self.cut = cut
        self.plans = {switch.name: plan_switch(fabric, switch.dpid, ecmp=ecmp, cut=cut) for switch in fabric.switches}
        self.tables = {
            name: {
                protocol: sorted(
                    (
                        (rule.priority, *_as_numbers(rule.match.prefix), rule.action)
                        for rule in plan
                        if isinstance(rule, Rule) and rule.match is not None and rule.match.ether_type == protocol
                    ),
                    key=lambda entry: -entry[0],
                )
                for protocol in EtherType
            }
            for name, plan in self.plans.items()
        }
        self.groups = {
            name: {entry.group_id: entry for entry in plan if isinstance(entry, Group)}
            for name, plan in self.plans.items()
        }

    def ports(self, switch: str, address: int, protocol: EtherType = EtherType.IPV4) -> tuple[int, ...]:
        """The ports by which the switch may send; none when it drops."""
        for _, network, mask, action in self.tables[switch][protocol]:
            if address & mask == network:
                ports = _ports_of(action, self.groups[switch])
                own = {link.source_port for link in self.fabric.links_from[switch] if link.index in self.cut}
                return tuple(port for port in ports if len(ports) == 1 or port not in own)
        return ()

    def paths(self, source: int, address: str, protocol: EtherType = EtherType.IPV4) -> set[tuple[int, ...]]:
        """Every walk from an instance that ends at an instance, as link indices."""
        target = int(ipaddress.ip_address(address))
        (first,) = self.fabric.links_from[self.fabric.instances[source].name]
        found: set[tuple[int, ...]] = set()
        under_way: list[tuple[tuple[int, ...], str]] = [((first.index,), first.target)]
        while under_way:
            path, node = under_way.pop()
            assert len(path) <= 8, f"a walk to {address} does not end: {path}"
            if node in self.fabric.switch_by_name:
                links = {link.source_port: link for link in self.fabric.links_from[node]}
                under_way += [
                    ((*path, links[port].index), links[port].target) for port in self.ports(node, target, protocol)
                ]
            else:
                found.add(path)
        return found


def _as_numbers(prefix: str) -> tuple[int, int]:
    network = ipaddress.ip_network(prefix)
    return int(network.network_address), int(network.netmask)


def _ports_of(action: Action, groups: dict[int, Group]) -> tuple[int, ...]:
    if isinstance(action, Output):
        return (action.port,)
    if isinstance(action, Bundle):
        return action.ports
    return groups[action.group_id].ports if isinstance(action, ToGroup) else ()


@pytest.mark.parametrize("gpus", FABRICS)
@pytest.mark.parametrize("ecmp", ["bundle", "select"])
def test_every_pair_is_joined_by_exactly_the_paths_of_the_fabric(gpus: int, ecmp: str) -> None:
    fabric = build_fattree(FABRICS[gpus])
    assert fabric.spec.gpus == gpus
    switches = FakeSwitches(fabric, ecmp)
    targets = fabric.instances if gpus <= 256 else fabric.instances[:: len(fabric.instances) // 16 + 1]
    for source, target in itertools.product(fabric.instances, targets):
        if source != target:
            expected = set(fabric.paths(source.index, target.index))
            assert switches.paths(source.index, instance_ip(target)) == expected


def test_arp_requests_travel_to_their_target_alone() -> None:
    fabric = build_fattree(FabricSpec())
    switches = FakeSwitches(fabric)
    for source, target in itertools.permutations(fabric.instances, 2):
        found = switches.paths(source.index, instance_ip(target), EtherType.ARP)
        assert found == set(fabric.paths(source.index, target.index))


@pytest.mark.parametrize("address", ["10.0.0.9", "10.0.0.99", "10.0.9.1", "10.9.0.1", "10.1.0.0", "192.168.0.1"])
@pytest.mark.parametrize("protocol", EtherType)
def test_an_address_that_nobody_has_reaches_nobody_and_never_loops(address: str, protocol: EtherType) -> None:
    fabric = build_fattree(FabricSpec())
    switches = FakeSwitches(fabric)
    for source in fabric.instances:
        assert switches.paths(source.index, address, protocol) == set()


def test_only_uplinks_are_equal_cost_and_cores_have_none() -> None:
    fabric = build_fattree(FabricSpec())
    for switch in fabric.switches:
        actions = {entry.action for entry in plan_switch(fabric, switch.dpid) if isinstance(entry, Rule)}
        bundles = [action for action in actions if isinstance(action, Bundle)]
        expected = {Level.SERVER: 0, Level.CORE: 0, Level.TOR: 1, Level.AGGREGATION: 1}[switch.level]
        assert len(bundles) == expected
        assert all(len(bundle.ports) == 2 for bundle in bundles)


def test_one_uplink_needs_no_hash() -> None:
    fabric = build_fattree(FabricSpec(aggregations_per_pod=1))
    tor = fabric.switch_by_name["tor0"]
    for ecmp in ("bundle", "select"):
        actions = [entry.action for entry in plan_switch(fabric, tor.dpid, ecmp=ecmp) if isinstance(entry, Rule)]
        assert all(isinstance(action, (Output, Drop)) for action in actions)


def test_a_plan_ends_with_the_table_miss_that_drops_and_begins_with_its_groups() -> None:
    fabric = build_fattree(FabricSpec())
    for switch in fabric.switches:
        plan = plan_switch(fabric, switch.dpid, ecmp="select")
        assert plan[-1] == Rule(0, None, Drop())
        kinds = [isinstance(entry, Group) for entry in plan]
        assert kinds == sorted(kinds, reverse=True)
        assert sum(kinds) == (switch.level in (Level.TOR, Level.AGGREGATION))


@pytest.mark.parametrize("seed", [0, 1, 2, 41, 2**16, 2**32 - 1])
@pytest.mark.parametrize("gpus", [64, 1024])
def test_every_switch_hashes_in_its_own_way(seed: int, gpus: int) -> None:
    fabric = build_fattree(FABRICS[gpus])
    bases = [hash_basis(switch.dpid, seed) for switch in fabric.switches]
    assert len(set(bases)) == len(bases)
    assert all(0 <= basis < 2**16 for basis in bases)


def test_seed_zero_hashes_by_the_datapath_id_and_another_seed_otherwise() -> None:
    dpids = [switch.dpid for switch in build_fattree(FabricSpec()).switches]
    assert [hash_basis(dpid) for dpid in dpids] == dpids
    assert len({tuple(hash_basis(dpid, seed) for dpid in dpids) for seed in range(100)}) == 100


def test_unknown_switch_and_unknown_ecmp_are_refused() -> None:
    fabric = build_fattree(FabricSpec())
    with pytest.raises(FabricError, match="no switch 0x7"):
        plan_switch(fabric, 7)
    with pytest.raises(FabricError, match="ecmp: 'flood'"):
        plan_switch(fabric, fabric.switches[0].dpid, ecmp="flood")


def cut_of(fabric: Fabric, *cables: tuple[str, str]) -> frozenset[int]:
    return frozenset(fabric.link_index[ends] for a, b in cables for ends in ((a, b), (b, a)))


CUTS = {
    "core": [("agg0", "core0")],
    "a whole core": [("agg0", "core0"), ("agg2", "core0")],
    "two cores of a group": [("agg0", "core0"), ("agg0", "core1")],
    "rack": [("tor0", "agg1")],
    "core and rack": [("agg0", "core1"), ("tor3", "agg3")],
    "crossed": [("agg0", "core0"), ("agg2", "core1")],
}


@pytest.mark.parametrize("cut", CUTS)
def test_no_way_that_a_switch_may_choose_leads_into_a_cut(cut: str) -> None:
    """A bundle skips its own dead ports, so those do not count: what is left must end at the target, and be all."""
    fabric = build_fattree(FabricSpec())
    gone = cut_of(fabric, *CUTS[cut])
    switches = FakeSwitches(fabric, cut=gone)
    for source, target in itertools.permutations(fabric.instances, 2):
        whole = {path for path in fabric.paths(source.index, target.index) if not gone & set(path)}
        assert whole, "these cuts leave every pair joined"
        for protocol in EtherType:
            assert switches.paths(source.index, instance_ip(target), protocol) == whole


def test_only_the_switches_that_would_lose_packets_get_new_rules_for_a_cut() -> None:
    fabric = build_fattree(FabricSpec())
    gone = cut_of(fabric, ("agg0", "core0"))
    changed = {
        switch.name
        for switch in fabric.switches
        if plan_switch(fabric, switch.dpid) != plan_switch(fabric, switch.dpid, cut=gone)
    }
    assert changed == {"agg2"}
    (detour, arp) = set(plan_switch(fabric, 0x3003, cut=gone)) - set(plan_switch(fabric, 0x3003))
    assert isinstance(detour, Rule)
    assert isinstance(arp, Rule)
    assert detour.match is not None
    assert (detour.match.prefix, detour.action) == ("10.0.0.0/16", Bundle((4,), hash_basis(0x3003)))


def test_an_unreachable_rack_keeps_its_routes() -> None:
    fabric = build_fattree(FabricSpec())
    gone = cut_of(fabric, ("tor0", "agg0"), ("tor0", "agg1"))
    for switch in fabric.switches:
        assert plan_switch(fabric, switch.dpid) == plan_switch(fabric, switch.dpid, cut=gone)


def test_the_negative_control_takes_no_detours() -> None:
    fabric = build_fattree(FabricSpec())
    gone = cut_of(fabric, ("agg0", "core0"))
    for switch in fabric.switches:
        before, after = (plan_switch(fabric, switch.dpid, ecmp="select", cut=cut) for cut in (frozenset(), gone))
        assert before == after
