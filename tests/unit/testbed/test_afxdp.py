"""What the AF_XDP datapath asks of a machine, and where a link of it is shaped and metered."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed import afxdp
from testbed.errors import TestbedError
from topologies import FabricSpec, build_fattree, middle_of
from topologies.mininet import meter_of
from topologies.shaping import handover_command

FABRIC = build_fattree(FabricSpec())


def with_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kib: int) -> None:
    place = tmp_path / "meminfo"
    place.write_text(f"MemTotal:       {2 * kib} kB\nMemAvailable:   {kib} kB\n")
    monkeypatch.setattr(afxdp, "MEMORY", place)
    monkeypatch.setattr(afxdp, "supported", lambda: True)


def test_a_fabric_whose_ports_do_not_fit_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_memory(monkeypatch, tmp_path, kib=4_000_000)
    with pytest.raises(TestbedError, match=r"take 4\.8 GB of memory and 4\.1 GB are free; use datapath=user"):
        afxdp.check_machine(FABRIC)


def test_one_that_fits_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_memory(monkeypatch, tmp_path, kib=6_000_000)
    afxdp.check_machine(FABRIC)


def test_a_kernel_without_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(afxdp, "supported", lambda: False)
    with pytest.raises(TestbedError, match="this kernel has no AF_XDP sockets; use datapath=user"):
        afxdp.check_machine(FABRIC)


def test_every_link_is_metered_behind_its_shaper_at_the_far_end() -> None:
    meters = {link.name: meter_of(link, FABRIC, split=True) for link in FABRIC.links}
    assert meters["tor0>agg0"] == middle_of("agg0-eth1") == "agg0-eth1.m"
    assert len(set(meters.values())) == len(FABRIC.links)
    assert all(meter is not None and len(meter) <= 15 for meter in meters.values())  # of an interface's name


def test_a_link_that_is_not_split_is_metered_where_it_begins_unless_that_is_a_host() -> None:
    assert meter_of(FABRIC.link_by_name["tor0>agg0"], FABRIC, split=False) == "tor0-eth3"
    assert meter_of(FABRIC.link_by_name["h0>srv0"], FABRIC, split=False) is None


def test_frames_are_handed_over_from_one_middle_to_the_other() -> None:
    command = handover_command("tor0-eth3.m", "agg0-eth1.m")
    assert command.startswith("tc qdisc add dev tor0-eth3.m handle ffff: ingress && ")
    assert command.endswith("redirect dev agg0-eth1.m")
