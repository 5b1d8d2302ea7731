"""What the emulated world is told to do when something breaks: the commands, without a fabric that carries them out."""

from __future__ import annotations

import os
import signal
import subprocess
from types import SimpleNamespace
from typing import cast

import pytest

from scenario import FaultState, Scenario
from testbed.fabric_up import FabricUp
from testbed.fault_player import (
    changed_shares,
    every_other_process_stopped,
    network_commands,
    ports_of,
    processes_running,
)
from topologies import Link
from topologies.mininet import interface_of
from topologies.shaping import FAIR_ACKNOWLEDGEMENTS

FABRIC, _ = Scenario().build()
BURST_MS = 2.0
DIVISOR = 5000.0


def shaper_of(link: Link) -> tuple[str, int | None]:
    return interface_of(link), None if link.source in FABRIC.switch_by_name else int(link.source[1:])


UP = cast(
    FabricUp,
    SimpleNamespace(
        fabric=FABRIC,
        spec=SimpleNamespace(burst_ms=BURST_MS, queue="fair"),
        link_divisor=DIVISOR,
        shaper_of=shaper_of,
        split=False,
    ),
)


def indices(*names: str) -> frozenset[int]:
    return frozenset(FABRIC.link_by_name[name].index for name in names)


def commands(before: FaultState, after: FaultState) -> list[tuple[int | None, str]]:
    return list(network_commands(UP, before, after))


def test_a_cable_goes_down_and_up_at_both_switches() -> None:
    cut = FaultState(cut=indices("tor0>agg1", "agg1>tor0"))
    ports = ports_of(cut.cut, FABRIC)
    assert sorted(port.partition("-")[0] for port in ports) == ["agg1", "tor0"]
    (down,), (up,) = commands(FaultState(), cut), commands(cut, FaultState())
    assert down == (None, " && ".join(f"ip link set {port} down" for port in ports))
    assert up == (None, down[1].replace(" down", " up"))


def test_a_host_loses_its_carrier_and_keeps_its_interface_up() -> None:
    assert ports_of(indices("h0>srv0", "srv0>h0"), FABRIC) == [interface_of(FABRIC.link_by_name["srv0>h0"])]


def test_a_degraded_link_is_shaped_to_its_share_where_its_shaper_is() -> None:
    slow = FaultState(shares=dict.fromkeys(sorted(indices("h0>srv0", "srv0>h0")), 0.25))
    rate_bit = round(0.25 * FABRIC.spec.nvlink_rate_bps / DIVISOR)
    found = commands(FaultState(), slow)
    assert sorted(str(instance) for instance, _ in found) == ["0", "None"]
    for class_id in (1, FAIR_ACKNOWLEDGEMENTS):
        changed = f"classid 5:{class_id} htb rate {rate_bit}bit ceil {rate_bit}bit"
        assert all(changed in command for _, command in found)
    assert all(command.count("class change dev") == 2 for _, command in found)
    back = commands(slow, FaultState())
    assert all(f"htb rate {round(FABRIC.spec.nvlink_rate_bps / DIVISOR)}bit" in command for _, command in back)


@pytest.mark.parametrize("split", [False, True])
def test_frames_of_a_lossy_cable_are_lost_in_both_directions_until_it_is_whole(split: bool) -> None:
    """Between ports of AF_XDP they are lost in the middle, elsewhere where they leave."""
    up = cast(FabricUp, SimpleNamespace(fabric=FABRIC, split=split))
    up.lossy_place = lambda link: FabricUp.lossy_place(up, link)  # type: ignore[method-assign]
    lossy = FaultState(losses=dict.fromkeys(sorted(indices("h0>srv0", "srv0>h0")), 0.25))
    begun, ended = list(network_commands(up, FaultState(), lossy)), list(network_commands(up, lossy, FaultState()))
    assert [instance for instance, _ in begun] == [instance for instance, _ in ended] == [None if split else 0, None]
    assert all(f",53 1 0 {2**30}," in command for _, command in begun)
    assert all("filter del" in command if split else "qdisc del" in command for _, command in ended)
    for (_, begins), (_, ends) in zip(begun, ended, strict=True):
        interface = ends.split("dev ")[1].split()[0]
        assert interface.endswith(".m") == split
        assert f"dev {interface} " in begins


def test_a_pause_stops_every_process_that_runs_and_no_stopped_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is new when the other has been stopped."""
    seen = iter([{os.getpid(), 71}, {os.getpid(), 73}, {os.getpid()}])
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr("testbed.fault_player.processes_running", lambda: next(seen))
    monkeypatch.setattr("os.kill", lambda process, number: sent.append((process, number)))
    with every_other_process_stopped():
        assert sent == [(71, signal.SIGSTOP), (73, signal.SIGSTOP)]
    assert sorted(sent[2:]) == [(71, signal.SIGCONT), (73, signal.SIGCONT)]


def test_what_is_stopped_does_not_count_as_running() -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        assert sleeper.pid in processes_running()
        sleeper.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED)
        assert sleeper.pid not in processes_running()
        sleeper.kill()
    assert os.getpid() in processes_running()


def test_what_stays_as_it_is_needs_no_command() -> None:
    state = FaultState(cut=indices("tor0>agg1"), shares={3: 0.5})
    assert commands(state, state) == []


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [({}, {1: 0.5}, {1: 0.5}), ({1: 0.5}, {}, {1: 1.0}), ({1: 0.5, 2: 0.1}, {1: 0.5, 2: 0.2}, {2: 0.2})],
)
def test_shares_that_changed(before: dict[int, float], after: dict[int, float], changed: dict[int, float]) -> None:
    assert changed_shares(before, after, 1.0) == changed
