"""Where a fabric is cut between machines, what a tunnel's end is, and what is known of another machine's clock."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.emulation import EmulationSpec
from testbed.errors import TestbedError
from testbed.machines import JOINT_MTU_B, VXLAN_B, Exchange, Machine, clock_offset
from testbed.placed_nodes import MTU_B, check_placeable, placing, tunnel_command
from topologies import FabricError, FabricSpec, build_fattree, cut_links, partition

DEFAULT = build_fattree(FabricSpec())


def test_one_machine_holds_all_and_cuts_nothing() -> None:
    machine_of = partition(DEFAULT, 1)
    assert machine_of.keys() == {node.name for node in (*DEFAULT.instances, *DEFAULT.switches)}
    assert (set(machine_of.values()), cut_links(DEFAULT, machine_of)) == ({0}, [])


def test_two_machines_hold_a_pod_each_and_every_other_core() -> None:
    machine_of = partition(DEFAULT, 2)
    assert [name for name, machine in machine_of.items() if machine] == [
        *(f"h{index}" for index in range(8, 16)),
        *("core1", "core3", "agg2", "agg3", "tor2", "tor3", "srv4", "srv5", "srv6", "srv7"),
    ]


@given(pods=st.integers(1, 9), machines=st.integers(1, 9), cores=st.integers(1, 3))
def test_only_links_to_cores_are_cut_and_a_path_is_cut_once_where_its_ends_are_apart(
    pods: int, machines: int, cores: int
) -> None:
    fabric = build_fattree(FabricSpec(pods=pods, racks_per_pod=1, servers_per_rack=1, cores_per_group=cores))
    if machines > pods:
        with pytest.raises(FabricError, match=f"machines: {machines} cannot hold a pod each of {pods}"):
            partition(fabric, machines)
        return
    machine_of = partition(fabric, machines)
    cut = {link.index for link in cut_links(fabric, machine_of)}
    assert {machine_of[instance.name] for instance in fabric.instances} == set(range(machines))
    assert all({fabric.links[index].source[:4], fabric.links[index].target[:4]} & {"core"} for index in cut)
    for target in range(1, len(fabric.instances)):
        apart = machine_of["h0"] != machine_of[f"h{target}"]
        for path in fabric.paths(0, target):
            assert 1 <= len(cut & {*path}) <= 2 if apart else len(cut & {*path}) in (0, 2)


def test_both_ends_of_a_tunnel_know_each_other_and_the_network_holds_a_whole_frame() -> None:
    one, other = (
        tunnel_command("agg0-eth3", 7, "198.18.0.1", "198.18.0.2"),
        tunnel_command("core1-eth1", 7, "198.18.0.2", "198.18.0.1"),
    )
    assert "id 7 local 198.18.0.1 remote 198.18.0.2 " in one
    assert "id 7 local 198.18.0.2 remote 198.18.0.1 " in other
    assert JOINT_MTU_B == MTU_B + VXLAN_B == 1_550


def test_a_node_is_made_on_the_machine_that_holds_it() -> None:
    machines = [Machine(), Machine("machine1", "198.18.0.2", ("nsenter",))]
    up = SimpleNamespace(machines=machines, machine_of=partition(DEFAULT, 2))
    make = placing(
        lambda name, **given: ("own", name, given),  # type: ignore[arg-type]
        lambda name, machine, **given: (machine.name, name, given),  # type: ignore[arg-type]
        up,
        batch=True,
    )
    assert make("h0", ip="10.0.0.1/8") == ("own", "h0", {"batch": True, "ip": "10.0.0.1/8"})
    assert make("h8", ip="10.1.0.1/8") == ("machine1", "h8", {"batch": True, "ip": "10.1.0.1/8"})


@given(
    ahead_s=st.floats(-1e4, 1e4),
    ways_s=st.lists(st.tuples(st.floats(1e-6, 0.1), st.floats(1e-6, 0.1)), min_size=1, max_size=20),
)
def test_a_clock_is_as_far_ahead_as_is_said_but_for_the_error(
    ahead_s: float, ways_s: list[tuple[float, float]]
) -> None:
    exchanges = [
        Exchange(100.0 + n, 100.0 + n + out_s + ahead_s, 100.0 + n + out_s + back_s)
        for n, (out_s, back_s) in enumerate(ways_s)
    ]
    found = clock_offset(exchanges)
    assert abs(found.ahead_s - ahead_s) <= found.error_s + 1e-9
    assert found.error_s == pytest.approx(min(out_s + back_s for out_s, back_s in ways_s) / 2, abs=1e-9)


@pytest.mark.parametrize(
    ("datapath", "vswitchd", "named"), [("afxdp", "shared", "datapath=afxdp"), ("user", "own", "vswitchd=own")]
)
def test_switches_that_cannot_be_apart_are_refused_with_a_remedy(datapath: str, vswitchd: str, named: str) -> None:
    spec = EmulationSpec.model_validate({"datapath": datapath, "vswitchd": vswitchd})
    with pytest.raises(TestbedError, match=f"emulation.{named}: not on several machines; use emulation.datapath=user"):
        check_placeable(spec)
