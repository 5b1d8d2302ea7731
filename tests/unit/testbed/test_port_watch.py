"""What is made of the ports' counters, which a test writes here in the kernel's stead."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from testbed import link_log, port_watch
from testbed.link_log import LinkLog
from testbed.port_watch import PortCount, PortWatch, acknowledgement_bytes, parse_devices
from topologies import FRAME_B, FabricSpec, build_fattree

FABRIC = build_fattree(FabricSpec())
LINK = FABRIC.link_by_name["tor0>agg0"]
LINK_BPS = 20e6


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "dev"
    monkeypatch.setattr(port_watch, "DEVICES", place)
    monkeypatch.setattr(port_watch, "softnet", lambda: (0, 0))
    monkeypatch.setattr(port_watch, "_queues", lambda: "[]")
    carried(place, 0)
    return place


def carried(place: Path, of_link_bytes: int) -> None:
    """Counters of which one port has sent so much and all others nothing."""
    lines = ["Inter-|   Receive", " face |bytes"]
    for link in FABRIC.links:
        for end, port in ((link.source, link.source_port), (link.target, link.target_port)):
            sent = of_link_bytes if (end, port) == (LINK.source, LINK.source_port) else 0
            lines.append(f"{end}-eth{port}: 0 0 0 0 0 0 0 0 {sent} {sent // 1500} 0 0 0 0 0 0")
    whole = place.with_suffix(".new")
    whole.write_text("\n".join(lines))
    whole.replace(place)  # a reader in another thread never sees half of it


async def watched(ports: PortWatch, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ports.watch(), seconds)


def test_what_was_sent_before_the_watch_began_is_of_no_window(devices: Path) -> None:
    ports = PortWatch(FABRIC, LINK.capacity_bps / LINK_BPS, 2e-3)
    carried(devices, 1_000_000)
    asyncio.run(watched(ports, 0.25))
    evidence = ports.evidence()
    assert evidence["port_overshoot"] == 0
    assert evidence["link_bytes"][LINK.name] == 1_000_000


def test_a_port_that_carried_too_much_is_named(devices: Path) -> None:
    ports = PortWatch(FABRIC, LINK.capacity_bps / LINK_BPS, 2e-3)

    async def overrun() -> None:
        watching = asyncio.create_task(watched(ports, 0.8))
        await asyncio.sleep(0.3)
        carried(devices, 1_000_000)
        await watching

    asyncio.run(overrun())
    evidence = ports.evidence()
    allowed = LINK_BPS / 8 * (0.1 + 2e-3)
    assert 2 < evidence["port_overshoot"] < 1.2 * 1_000_000 / allowed  # a busy machine has longer windows
    assert evidence["port_overshoot_at"] == LINK.name


def test_a_frame_beyond_the_burst_is_no_overshoot(devices: Path) -> None:
    """Of a slow port: ten frames of rate a window, and one that HTB may send while a byte of its burst is left."""
    rate_bps = 10 * 1514 * 8 / 0.1
    ports = PortWatch(FABRIC, LINK.capacity_bps / rate_bps, 0.0)
    ports._note(LINK.name, 11 * 1514, 0.1)
    assert ports.evidence()["port_overshoot"] <= 1.0
    ports._note(LINK.name, 13 * 1514, 0.1)
    assert ports.evidence()["port_overshoot"] > 1.05


@pytest.mark.parametrize(("carried_in_ten", "rate"), [([0.92] * 8 + [1.0] * 2, 1.0), ([0.92] * 10, 0.92)])
def test_a_port_that_is_nearly_full_all_the_time_is_not_held_against_its_rate(
    devices: Path, carried_in_ten: list[float], rate: float
) -> None:
    ports = PortWatch(FABRIC, LINK.capacity_bps / LINK_BPS, 2e-3)
    for share in [0.9, *carried_in_ten, 0.9]:  # the first and the last window of a busy period do not count
        ports._note(LINK.name, round(share * LINK_BPS / 8 * 0.1), 0.1)
    assert ports.evidence()["saturated_rate"] == pytest.approx(rate, abs=0.005)


@pytest.mark.parametrize(("full", "empty"), [(100, 0), (0, 40), (100, 50), (1000, 900)])
def test_acknowledgements_beside_full_frames_are_told_by_their_number(full: int, empty: int) -> None:
    moved = PortCount(full * FRAME_B + empty * 66, full + empty)
    assert acknowledgement_bytes(moved) == pytest.approx(66 * empty)


@pytest.mark.parametrize(("apart", "most"), [(True, 1.0), (False, 1.04)])
def test_acknowledgements_at_a_rate_of_their_own_are_no_overshoot(
    devices: Path, monkeypatch: pytest.MonkeyPatch, apart: bool, most: float
) -> None:
    """A port that is full of data, with an acknowledgement beside each frame."""
    frames = round(LINK_BPS / 8 * 1.0 / FRAME_B)
    before, after = PortCount(0, 0), PortCount(frames * (FRAME_B + 66), 2 * frames)
    counted = iter([(0.0, before, 0.0), (1.0, after, 1.0)])
    ports = PortWatch(FABRIC, LINK.capacity_bps / LINK_BPS, 0.0, acknowledgements_apart=apart)
    others = dict.fromkeys(ports.read(), PortCount(0, 0))

    def timed() -> tuple[float, dict[str, PortCount], float]:
        begun_s, count, ended_s = next(counted)
        return begun_s, others | {LINK.name: count}, ended_s

    monkeypatch.setattr(ports, "_timed", timed)
    with contextlib.suppress(RuntimeError, StopIteration):
        asyncio.run(watched(ports, 0.5))
    assert ports.evidence()["port_overshoot"] == pytest.approx(most, abs=0.005)


class Telemetry:
    """A client of an oracle that has counted a share of what the port has sent, whenever it is asked."""

    def __init__(self, place: Path, share: float) -> None:
        self._place, self._share = place, share

    def fetch(self) -> dict[str, Any]:
        counted = parse_devices(self._place.read_text())[f"{LINK.source}-eth{LINK.source_port}"][0].bytes
        links = {LINK.name: {"bytes": round(self._share * counted), "utilisation": 0.0}}
        return {"sampled_monotonic_s": time.monotonic(), "links": links}


@pytest.mark.parametrize("share", [1.0, 0.9])
def test_telemetry_is_held_against_the_ports(devices: Path, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr(link_log, "SAMPLE_S", 0.05)
    ports = PortWatch(FABRIC, LINK.capacity_bps / LINK_BPS, 2e-3)
    links = LinkLog(Telemetry(devices, share), lambda at_s: at_s, rate_scale=1.0)  # type: ignore[arg-type]

    async def steady() -> None:
        watching = [asyncio.create_task(work) for work in (ports.watch(), links.watch())]
        began_s = time.monotonic()
        while (passed_s := time.monotonic() - began_s) < 1.0:
            carried(devices, round(passed_s * 1e7))
            await asyncio.sleep(0.005)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)

    asyncio.run(steady())
    assert links.against(ports) == pytest.approx(share - 1, abs=0.04)


def test_telemetry_without_two_samples_is_not_judged(devices: Path) -> None:
    links = LinkLog(Telemetry(devices, 1.0), lambda at_s: at_s, rate_scale=1.0)  # type: ignore[arg-type]
    assert links.against(PortWatch(FABRIC, 1.0, 2e-3)) is None
