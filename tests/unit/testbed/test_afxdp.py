"""What the AF_XDP datapath asks of a machine, and where a link of it is shaped and metered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from experiments.running.run_spec import make_spec
from testbed import datapath
from testbed.afxdp import check_machine
from testbed.datapath import choose_datapath
from testbed.emulation import EmulationSpec
from testbed.errors import TestbedError
from topologies import FabricSpec, build_fattree, middle_of
from topologies.mininet import meter_of
from topologies.shaping import handover_lines

FABRIC = build_fattree(FabricSpec())
PORTS = 64
"""Of the default fabric."""


def test_ports_that_do_not_fit_now_are_refused_in_one_line(machine: Path) -> None:
    with pytest.raises(TestbedError, match=r"take 4\.8 GB of memory and 4\.1 GB are free; use emulation.datapath=user"):
        check_machine(PORTS)
    check_machine(PORTS - 10)


def test_a_kernel_without_is_refused(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    monkeypatch.setattr(datapath, "_kernel_has_afxdp", lambda: False)
    with pytest.raises(TestbedError, match=r"this kernel has no AF_XDP sockets; use emulation\.datapath=user"):
        check_machine(PORTS)


def test_the_best_datapath_of_a_machine_is_chosen_with_the_ports_in_view(machine: Path) -> None:
    assert choose_datapath(PORTS)[0] == "afxdp"
    chosen, reason = choose_datapath(PORTS + 20)
    assert chosen == "user"
    assert "84 ports take 6.3 GB of 8.2 GB of memory" in reason
    (machine / "openvswitch").touch()
    assert choose_datapath(PORTS) == ("kernel", "the openvswitch kernel module is loaded")


@pytest.mark.parametrize(
    ("what", "lack"), [("_kernel_has_afxdp", "no AF_XDP sockets"), ("_vswitchd_has_afxdp", "built without AF_XDP")]
)
def test_what_afxdp_lacks_is_the_reason_for_the_slower_one(
    machine: Path, monkeypatch: pytest.MonkeyPatch, what: str, lack: str
) -> None:
    monkeypatch.setattr(datapath, what, lambda: False)
    chosen, reason = choose_datapath(0)
    assert (chosen, lack in reason) == ("user", True)


def test_one_processor_is_too_few(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert choose_datapath(0)[0] == "user"


def test_a_specification_takes_what_its_fabric_can_have_unless_it_says_what_it_wants(machine: Path) -> None:
    large = {"fabric.pods": 4}
    assert make_spec({}, {}).emulation.datapath == "afxdp"
    assert make_spec({}, large).emulation.datapath == "user"
    assert make_spec({}, {**large, "emulation.datapath": "auto", "emulation.paced": False}).emulation == EmulationSpec(
        datapath="user", paced=False
    )
    assert make_spec({}, {**large, "emulation.datapath": "afxdp"}).emulation.datapath == "afxdp"
    assert make_spec({}, {"emulation.vswitchd": "own"}).emulation.datapath == "user"
    written = make_spec({}, large).model_dump(mode="json")
    assert make_spec(written, {}).emulation == make_spec({}, large).emulation


@pytest.mark.parametrize("spec", [FabricSpec(), FabricSpec(pods=4, racks_per_pod=3, cores_per_group=1)])
def test_ports_are_counted_without_building_the_fabric(spec: FabricSpec) -> None:
    fabric = build_fattree(spec)
    assert spec.switch_ports == sum(link.source in fabric.switch_by_name for link in fabric.links)


def test_every_link_is_metered_behind_its_shaper_at_the_far_end() -> None:
    meters = {link.name: meter_of(link, FABRIC, split=True) for link in FABRIC.links}
    assert meters["tor0>agg0"] == middle_of("agg0-eth1") == "agg0-eth1.m"
    assert len(set(meters.values())) == len(FABRIC.links)
    assert all(meter is not None and len(meter) <= 15 for meter in meters.values())  # of an interface's name


def test_a_link_that_is_not_split_is_metered_where_it_begins_unless_that_is_a_host() -> None:
    assert meter_of(FABRIC.link_by_name["tor0>agg0"], FABRIC, split=False) == "tor0-eth3"
    assert meter_of(FABRIC.link_by_name["h0>srv0"], FABRIC, split=False) is None


def test_frames_are_handed_over_from_one_middle_to_the_other() -> None:
    first, second = handover_lines("tor0-eth3.m", "agg0-eth1.m")
    assert first == "qdisc add dev tor0-eth3.m handle ffff: ingress"
    assert second.startswith("filter add dev tor0-eth3.m ")
    assert second.endswith("redirect dev agg0-eth1.m")
