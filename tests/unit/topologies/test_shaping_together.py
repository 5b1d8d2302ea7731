"""Many ports are shaped by few processes; which line failed is named. With programs in the places of `ip` and `tc`."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from topologies.mininet import ShapedLink, ShapingError, shaping_together
from topologies.shaping import Shape, queue_length_lines, shaping_lines

SHAPE = Shape(20e6, queue="fair", queues=8)


class Cable(ShapedLink):
    """One whose ends are named and shaped, and nothing else."""

    def __init__(self, *names: str) -> None:
        self.ports = [
            SimpleNamespace(name=name, params={"shape": SHAPE}, is_shaped_with_others=False) for name in names
        ]

    @property
    def switch_ports(self) -> Any:
        return self.ports


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for tool in ("ip", "tc"):
        use(tmp_path, tool, f"cat >> {tmp_path}/asked")
    return tmp_path


def use(place: Path, tool: str, script: str) -> None:
    (place / tool).write_text(f"#!/bin/sh\n{script}\n")
    (place / tool).chmod(0o755)


def test_queues_have_their_length_before_switches_start_and_ports_are_shaped_after(tools: Path) -> None:
    links = [Cable("tor0-eth1", "agg0-eth1"), Cable("tor1-eth1")]
    names = ["tor0-eth1", "agg0-eth1", "tor1-eth1"]
    lengths = [line for name in names for line in queue_length_lines(name, SHAPE)]
    with shaping_together(links, 30.0):
        assert (tools / "asked").read_text().splitlines() == lengths
        assert all(port.is_shaped_with_others for link in links for port in link.ports)
    shaping = [line for name in names for line in shaping_lines(name, SHAPE)]
    assert (tools / "asked").read_text().splitlines() == [*lengths, *shaping]
    assert not any(port.is_shaped_with_others for link in links for port in link.ports)


def test_the_line_that_failed_is_named(tools: Path) -> None:
    use(tools, "tc", "echo 'RTNETLINK answers: No such device' >&2; echo 'Command failed -:3' >&2; exit 1")
    third = shaping_lines("tor0-eth1", SHAPE)[2]
    with pytest.raises(ShapingError, match="No such device") as told, shaping_together([Cable("tor0-eth1")], 30.0):
        pass
    assert str(told.value).startswith(f"`tc {third}`: ")


def test_a_tool_that_does_not_end_ends_at_the_deadline_of_all_with_the_remedy(tools: Path) -> None:
    use(tools, "tc", "exec sleep 60")
    began_s = time.monotonic()
    late = pytest.raises(ShapingError, match=r"raise emulation\.bringup_deadline_s")
    with late, shaping_together([Cable("tor0-eth1")], 0.5):
        pass
    assert time.monotonic() - began_s < 30


def test_ports_shape_themselves_again_after_switches_that_did_not_start(tools: Path) -> None:
    cable = Cable("tor0-eth1")
    with pytest.raises(RuntimeError, match="no switch"), shaping_together([cable], 30.0):
        raise RuntimeError("no switch")
    assert not cable.ports[0].is_shaped_with_others
    assert len((tools / "asked").read_text().splitlines()) == 1
