"""What is made of the ports' counters, which a test writes here in the kernel's stead."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from testbed import port_watch
from testbed.port_watch import PortWatch
from topologies import FabricSpec, build_fattree

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
    place.write_text("\n".join(lines))


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
        watching = asyncio.create_task(watched(ports, 0.25))
        await asyncio.sleep(0.05)
        carried(devices, 1_000_000)
        await watching

    asyncio.run(overrun())
    evidence = ports.evidence()
    allowed = LINK_BPS / 8 * (0.1 + 2e-3)
    assert evidence["port_overshoot"] == pytest.approx(1_000_000 / allowed, rel=0.2)
    assert evidence["port_overshoot_at"] == LINK.name
