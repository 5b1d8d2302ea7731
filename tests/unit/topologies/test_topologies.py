"""The fabric: hand-checked pairs of the default one, and what must hold of every fabric from 64 to 1024 GPUs."""

from __future__ import annotations

import ipaddress
import math
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.paths import ROOT
from topologies import (
    PLACEMENTS,
    Fabric,
    FabricError,
    FabricSpec,
    Level,
    build_fattree,
    instance_ip,
    instance_mac,
    place,
    rack_prefix,
    server_prefix,
)
from topologies.addressing import pod_prefix
from topologies.fabric import HOPS_OF_TIER
from topologies.mininet import cables, interface_of
from topologies.shaping import Shape, ShapingError, shaping_command

SYSTEM_PYTHON = Path("/usr/bin/python3")
LONGEST_INTERFACE_NAME = 15  # IFNAMSIZ less its final zero (linux/if.h)


@pytest.fixture(scope="module")
def default() -> Fabric:
    return build_fattree(FabricSpec())


def nodes_on(fabric: Fabric, path: tuple[int, ...]) -> list[str]:
    links = [fabric.links[index] for index in path]
    assert all(one.target == other.source for one, other in pairwise(links))
    return [links[0].source, *(link.target for link in links)]


# The default fabric, by hand


def test_the_default_fabric_has_16_instances_and_20_switches(default: Fabric) -> None:
    assert default.spec.gpus == 64
    assert len(default.instances) == 16
    assert [len(default.switches_at(level)) for level in Level] == [8, 4, 4, 4]
    assert len(default.links) == 2 * (16 + 8 + 4 * 2 + 4 * 2)


@pytest.mark.parametrize(
    ("source", "target", "tier", "hops", "paths"),
    [
        (0, 1, 0, 2, 1),  # two slots of server 0
        (0, 2, 1, 4, 1),  # servers 0 and 1 of rack 0
        (0, 4, 2, 6, 2),  # racks 0 and 1 of pod 0, by either aggregation
        (0, 8, 3, 8, 4),  # pods 0 and 1, by any of four cores
        (15, 0, 3, 8, 4),
    ],
)
def test_pairs_checked_by_hand(default: Fabric, source: int, target: int, tier: int, hops: int, paths: int) -> None:
    assert default.tier(source, target) == tier
    found = default.paths(source, target)
    assert [len(path) for path in found] == [hops] * paths


def test_every_way_across_pods_by_name(default: Fabric) -> None:
    assert [nodes_on(default, path) for path in default.paths(0, 15)] == [
        ["h0", "srv0", "tor0", "agg0", "core0", "agg2", "tor3", "srv7", "h15"],
        ["h0", "srv0", "tor0", "agg0", "core1", "agg2", "tor3", "srv7", "h15"],
        ["h0", "srv0", "tor0", "agg1", "core2", "agg3", "tor3", "srv7", "h15"],
        ["h0", "srv0", "tor0", "agg1", "core3", "agg3", "tor3", "srv7", "h15"],
    ]


def test_an_instance_has_no_path_to_itself(default: Fabric) -> None:
    with pytest.raises(FabricError, match="instance 3: there is no path from an instance to itself"):
        default.paths(3, 3)


def test_capacities_of_the_default_fabric(default: Fabric) -> None:
    """2 servers x 200 Gbit/s over 2:1 and 2 aggregations; then 2 racks x 100 Gbit/s over 2:1 and 2 cores."""
    assert default.link_by_name["h0>srv0"].capacity_bps == 3.6e12
    assert default.link_by_name["tor0>srv0"].capacity_bps == 200e9
    assert default.link_by_name["tor0>agg0"].capacity_bps == 100e9
    assert default.link_by_name["core0>agg0"].capacity_bps == 50e9
    assert [default.spec.tier_rate_bps(tier) for tier in range(4)] == [3.6e12, 200e9, 100e9, 50e9]
    assert [default.spec.tier_latency_s(tier) for tier in range(4)] == pytest.approx([2e-6, 4e-6, 6e-6, 8e-6])


def test_roles_of_each_placement(default: Fabric) -> None:
    assert place(default, "segregated").decode == (2, 3, 6, 7, 10, 11, 14, 15)
    assert place(default, "colocated").decode == tuple(range(1, 16, 2))
    assert place(default, "racks").decode == (4, 5, 6, 7, 12, 13, 14, 15)
    assert place(default, "first_rack").prefill == (0, 1, 2, 3)
    for name in PLACEMENTS:
        roles = place(default, name)
        assert sorted(roles.prefill + roles.decode) == list(range(16))


# Every fabric


@st.composite
def specs(draw: st.DrawFn) -> FabricSpec:
    """Fabrics of 64 to 1024 GPUs with between one and four of everything that multiplies."""
    gpus_per_instance = draw(st.sampled_from([1, 2, 4, 8]))
    shape = {
        "gpus_per_server": draw(st.sampled_from([8, 4]).filter(lambda gpus: gpus >= gpus_per_instance)),
        "servers_per_rack": draw(st.integers(1, 8)),
        "racks_per_pod": draw(st.integers(1, 4)),
    }
    gpus_of_pod = math.prod(shape.values())
    least, most = -(-64 // gpus_of_pod), 1024 // gpus_of_pod
    return FabricSpec(
        pods=draw(st.integers(least, max(min(most, least + 7), least))),
        gpus_per_instance=gpus_per_instance,
        aggregations_per_pod=draw(st.integers(1, 4)),
        cores_per_group=draw(st.integers(1, 4)),
        tor_oversubscription=draw(st.floats(1, 8)),
        aggregation_oversubscription=draw(st.floats(1, 8)),
        **shape,
    )


def pairs_of(fabric: Fabric, data: st.DataObject, count: int = 6) -> list[tuple[int, int]]:
    last = len(fabric.instances) - 1
    pair = st.tuples(st.integers(0, last), st.integers(0, last)).filter(lambda ends: ends[0] != ends[1])
    return data.draw(st.lists(pair, min_size=1, max_size=count)) if last else []


@settings(max_examples=40)
@given(spec=specs(), data=st.data())
def test_paths_are_chains_of_links_as_many_as_ecmp_has_choices(spec: FabricSpec, data: st.DataObject) -> None:
    fabric = build_fattree(spec)
    assert 64 <= spec.gpus <= 1024
    assert len(fabric.instances) == spec.instances
    choices = (1, 1, spec.aggregations_per_pod, spec.aggregations_per_pod * spec.cores_per_group)
    for source, target in pairs_of(fabric, data):
        paths, tier = fabric.paths(source, target), fabric.tier(source, target)
        assert len(set(paths)) == len(paths) == choices[tier]
        for path in paths:
            assert len(path) == HOPS_OF_TIER[tier]
            nodes = nodes_on(fabric, path)
            assert (nodes[0], nodes[-1]) == (f"h{source}", f"h{target}")
            assert len(set(nodes)) == len(nodes)


@settings(max_examples=25)
@given(spec=specs(), data=st.data())
def test_the_way_down_from_a_core_is_unique(spec: FabricSpec, data: st.DataObject) -> None:
    fabric = build_fattree(spec)
    for core in fabric.switches_at(Level.CORE):
        below = [link.target for link in fabric.links_from[core.name]]
        assert sorted(fabric.switch_by_name[name].pod for name in below) == list(range(spec.pods))
        assert {fabric.switch_by_name[name].group for name in below} == {core.group}
    for source, target in pairs_of(fabric, data):
        tops = [
            node for path in fabric.paths(source, target) for node in nodes_on(fabric, path) if node.startswith("core")
        ]
        assert len(set(tops)) == len(tops)


@settings(max_examples=25)
@given(specs())
def test_capacity_is_divided_by_oversubscription_at_each_level(spec: FabricSpec) -> None:
    fabric = build_fattree(spec)

    def joint_bps(node: str, above: str) -> float:
        return sum(link.capacity_bps for link in fabric.links_from[node] if link.target.startswith(above))

    into_tor_bps = spec.servers_per_rack * spec.nic_rate_bps
    assert joint_bps("tor0", "agg") * spec.tor_oversubscription == pytest.approx(into_tor_bps)
    into_pod_bps = spec.racks_per_pod * joint_bps("tor0", "agg")
    out_of_pod_bps = sum(joint_bps(f"agg{number}", "core") for number in range(spec.aggregations_per_pod))
    assert out_of_pod_bps * spec.aggregation_oversubscription == pytest.approx(into_pod_bps)
    both_ways = {(link.source, link.target): link.capacity_bps for link in fabric.links}
    assert all(both_ways[target, source] == rate for (source, target), rate in both_ways.items())


@settings(max_examples=25)
@given(specs())
def test_names_and_addresses_are_unique_and_fit(spec: FabricSpec) -> None:
    fabric = build_fattree(spec)
    for values in (
        [instance_ip(instance) for instance in fabric.instances],
        [instance_mac(instance) for instance in fabric.instances],
        [switch.dpid for switch in fabric.switches],
        [link.name for link in fabric.links],
        [interface_of(link) for link in fabric.links],
        [*(instance.name for instance in fabric.instances), *(switch.name for switch in fabric.switches)],
    ):
        assert len(set(values)) == len(values)
    assert max(len(interface_of(link)) for link in fabric.links) <= LONGEST_INTERFACE_NAME
    assert [link.index for link in fabric.links] == list(range(len(fabric.links)))
    assert all(int(instance_mac(instance)[:2], 16) & 0b10 > 0 for instance in fabric.instances)  # locally administered


@settings(max_examples=15)
@given(specs())
def test_a_prefix_holds_exactly_the_instances_below_its_switch(spec: FabricSpec) -> None:
    fabric = build_fattree(spec)
    for prefix_of, keys in (
        (server_prefix, ("pod", "rack", "server")),
        (rack_prefix, ("pod", "rack")),
        (pod_prefix, ("pod",)),
    ):
        last = fabric.instances[-1]
        where = tuple(getattr(last, key) for key in keys)
        network = ipaddress.ip_network(prefix_of(*where))
        inside = [i.index for i in fabric.instances if ipaddress.ip_address(instance_ip(i)) in network]
        assert inside == [i.index for i in fabric.instances if tuple(getattr(i, key) for key in keys) == where]


def test_the_largest_addressable_level_still_has_unique_datapaths() -> None:
    fabric = build_fattree(
        FabricSpec(pods=91, racks_per_pod=3, servers_per_rack=15, gpus_per_server=1, gpus_per_instance=1)
    )
    dpids = [switch.dpid for switch in fabric.switches]
    assert len(fabric.switches_at(Level.SERVER)) == 4095
    assert len(set(dpids)) == len(dpids)
    assert max(len(interface_of(link)) for link in fabric.links) <= LONGEST_INTERFACE_NAME


# Fabrics that cannot exist


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pods": 0}, "pods: 0 is below 1"),
        ({"pods": -2}, "pods: -2 is below 1"),
        ({"pods": 2.0}, "pods: 2.0 is not a whole number"),
        ({"pods": True}, "pods: True is not a whole number"),
        ({"pods": "2"}, "pods: '2' is not a whole number"),
        ({"pods": 256}, "pods: 256 is beyond the 255"),
        ({"racks_per_pod": 256}, "racks_per_pod: 256 is beyond the 255"),
        ({"servers_per_rack": 16}, "servers_per_rack: 16 is beyond the 15"),
        ({"gpus_per_server": 15, "gpus_per_instance": 1}, "gpus_per_server / gpus_per_instance: 15 is beyond the 14"),
        ({"gpus_per_instance": 3}, "gpus_per_instance: 3 does not divide a server's 8 GPUs"),
        ({"pods": 255, "racks_per_pod": 255}, "pods x racks_per_pod x servers_per_rack: 130050 switches are beyond"),
        ({"aggregations_per_pod": 10**9}, "pods x aggregations_per_pod: 2000000000 switches are beyond the 4095"),
        ({"cores_per_group": 10**9}, "aggregations_per_pod x cores_per_group: 2000000000 switches are beyond"),
        ({"nic_rate_bps": 0}, "nic_rate_bps: 0 is not positive"),
        ({"nic_rate_bps": -1.0}, "nic_rate_bps: -1.0 is not positive"),
        ({"nic_rate_bps": math.nan}, "nic_rate_bps: nan is not finite"),
        ({"nvlink_rate_bps": math.inf}, "nvlink_rate_bps: inf is not finite"),
        ({"nic_rate_bps": 10**400}, "nic_rate_bps: is beyond 1e+18"),
        ({"nic_rate_bps": "fast"}, "nic_rate_bps: 'fast' is not a number"),
        ({"nic_rate_bps": True}, "nic_rate_bps: True is not a number"),
        ({"hop_latency_s": -1e-9}, "hop_latency_s: -1e-09 is not positive"),
        ({"tor_oversubscription": 0.5}, "tor_oversubscription: 0.5 is below 1"),
        ({"aggregation_oversubscription": 0.99}, "aggregation_oversubscription: 0.99 is below 1"),
    ],
)
def test_a_fabric_that_cannot_exist_is_refused_by_the_name_of_its_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(FabricError, match=f"^{re.escape(message)}"):
        FabricSpec(**fields)


def test_no_latency_is_allowed() -> None:
    assert FabricSpec(hop_latency_s=0.0).tier_latency_s(3) == 0


@pytest.mark.parametrize(
    ("placement", "fields", "message"),
    [
        ("diagonal", {}, "placement: 'diagonal' is not one of segregated, colocated, racks, first_rack"),
        ("segregated", {"servers_per_rack": 1}, "placement: 'segregated' leaves no decode instance"),
        ("colocated", {"gpus_per_instance": 8}, "placement: 'colocated' leaves no decode instance"),
        ("racks", {"racks_per_pod": 1}, "placement: 'racks' leaves no decode instance"),
        ("first_rack", {"pods": 1, "racks_per_pod": 1}, "placement: 'first_rack' leaves no decode instance"),
    ],
)
def test_a_placement_that_leaves_a_role_empty_is_refused(placement: str, fields: dict[str, int], message: str) -> None:
    with pytest.raises(FabricError, match=f"^{re.escape(message)}"):
        place(build_fattree(FabricSpec(**fields)), placement)


# Mininet's side


def test_shaping_asks_tc_for_the_exact_rate() -> None:
    command = shaping_command("h0-eth0", Shape(20_000_000.4, queue_packets=300))
    assert "rate 20000000bit ceil 20000000bit" in command
    assert "pfifo limit 300" in command
    assert command.count("dev h0-eth0") == 4


def test_shaping_is_not_bound_by_mininets_1000_mbps() -> None:
    assert "rate 18000000000bit" in shaping_command("h0-eth0", Shape(18e9))


@pytest.mark.parametrize(("rate_bps", "burst_bytes"), [(1000, 1), (20e6, 5000), (1e9, 250_000), (18e9, 4_500_000)])
def test_a_shaper_may_catch_up_with_two_milliseconds(rate_bps: float, burst_bytes: int) -> None:
    assert f"burst {burst_bytes}b cburst {burst_bytes}b quantum 1514'" in shaping_command("h0-eth0", Shape(rate_bps))


def test_a_delay_comes_before_the_queue() -> None:
    command = shaping_command("h0-eth0", Shape(1e9, delay_s=2.5e-3))
    assert "root handle 4: netem delay 2500us" in command
    assert "parent 4:1 handle 5: htb" in command
    assert command.index("netem") < command.index("htb") < command.index("parent 5:1 handle 10: pfifo")


def test_ecn_marks_every_frame_beyond_a_step() -> None:
    command = shaping_command("h0-eth0", Shape(1e9, queue_packets=200, queue="ecn", mark_packets=20))
    assert "red limit 302800 min 30280 max 31794 avpkt 1514 burst 20" in command
    assert "probability 1 bandwidth 1000000000bit ecn" in command
    assert "handle 10: pfifo" not in command


def test_red_drops_between_a_twelfth_and_a_quarter_of_the_room() -> None:
    command = shaping_command("h0-eth0", Shape(1e9, queue_packets=120, queue="red"))
    assert "red limit 181680 min 15140 max 45420 avpkt 1514 burst 17" in command
    assert "probability 0.02 bandwidth 1000000000bit" in command
    assert "ecn" not in command


@pytest.mark.parametrize("rate_bps", [math.nan, math.inf, -math.inf, 0, -1, 0.4, 7])
def test_a_rate_that_tc_cannot_shape_is_refused(rate_bps: float) -> None:
    with pytest.raises(ShapingError, match=r"h0-eth0: cannot shape to"):
        shaping_command("h0-eth0", Shape(rate_bps))


@pytest.mark.parametrize("packets", [0, -1])
def test_a_queue_without_room_is_refused(packets: int) -> None:
    with pytest.raises(ShapingError, match=f"a queue of {packets} packets"):
        shaping_command("h0-eth0", Shape(1e6, queue_packets=packets))


def test_a_cable_is_listed_once_and_upward(default: Fabric) -> None:
    height = {"h": 0, "srv": 1, "tor": 2, "agg": 3, "core": 4}
    ends = [(link.source.rstrip("0123456789"), link.target.rstrip("0123456789")) for link in cables(default)]
    assert all(height[target] == height[source] + 1 for source, target in ends)
    assert len(ends) * 2 == len(default.links)


LOADED_AS_MN_DOES = """
import sys
code = compile(open(FILE).read(), FILE, "exec")
names = {}
exec(code, names)
topo = names["topos"]["fattree4"](ARGUMENTS)
print(len(topo.hosts()), len(topo.switches()), len(topo.links()))
"""


def in_plain_mininet(arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the topology's file under the system's Python, outside the project, as `mn --custom` executes it."""
    script = LOADED_AS_MN_DOES.replace("FILE", repr(str(ROOT / "topologies/mininet.py")))
    return subprocess.run(
        [str(SYSTEM_PYTHON), "-I", "-c", script.replace("ARGUMENTS", arguments)],
        cwd=folder, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_plain_mininet_loads_the_topology_without_our_environment(tmp_path: Path) -> None:
    done = in_plain_mininet("pods=2, rate_scale=5000", tmp_path)
    assert done.stdout.split() == ["16", "20", "40"], done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("gpus=4", "fattree4: got an unexpected keyword argument 'gpus'"),
        ("2", "fattree4: 2 is not a fabric (name the fields: fattree4,pods=2)"),
        ("rate_scale=0", "fattree4: rate_scale: 0 is not positive"),
        ("pods=0", "pods: 0 is below 1"),
    ],
)
def test_plain_mininet_is_told_what_is_wrong(tmp_path: Path, arguments: str, message: str) -> None:
    done = in_plain_mininet(arguments, tmp_path)
    assert done.stderr.strip().endswith(message)
