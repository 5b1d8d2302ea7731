"""What counts as clean between two runs: tables of the kernel as text, a made /proc, a clock that does not wait."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scenario import Scenario
from serving import Outcome
from testbed import clean_state
from testbed.clean_state import DEADLINE_S, CleanState, moved, open_sockets, waiting
from testbed.verdict import judge

pytestmark = pytest.mark.xdist_group("host")

TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100000A:1B59 0200000A:C350 01 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100000A:1B59 0200000A:C351 06 00000000:00000000 00:00000000 00000000     0        0 0 1
   2: 00000000:1B5A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
"""
UDP = (
    TCP.splitlines()[0] + "\n   9: 00000000:1B5A 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 3 2 0 0\n"
)
NOBODY = TCP.splitlines()[0] + "\n"


def queue(device: str, frames: int) -> dict[str, Any]:
    return {"kind": "pfifo", "handle": "10:", "dev": device, "backlog": 1514 * frames, "qlen": frames}


def devices(frames: int) -> str:
    row = f"{7 * frames} {frames} 0 0 0 0 0 0"
    return f"Inter-|\n face |\n    lo: {row} {row}\ntor0-eth1: {row} {row}\n"


def test_a_connection_is_named_and_one_that_is_only_remembered_is_not() -> None:
    assert list(open_sockets("tcp", TCP)) == [
        "tcp established 10.0.0.1:7001 to 10.0.0.2:50000",
        "tcp listen 0.0.0.0:7002 to 0.0.0.0:0",
    ]
    assert list(open_sockets("udp", UDP)) == ["udp socket on 0.0.0.0:7002"]
    assert list(open_sockets("tcp", NOBODY)) == []


def test_a_queue_that_is_not_empty_is_named() -> None:
    shown = json.dumps([{"kind": "noqueue", "dev": "lo"}, queue("tor0-eth1", 0), queue("h3-eth0", 12)])
    assert list(waiting(shown)) == ["h3-eth0: 12 frames of 18168 bytes wait in its pfifo queue"]


def test_a_few_frames_are_no_flow() -> None:
    before = {"tor0-eth1": (0, 0), "tor0-eth2": (0, 5)}
    assert moved(before, {"tor0-eth1": (420, 10), "tor0-eth2": (0, 5)}) == []
    assert moved(before, {"tor0-eth1": (500, 11), "tor0-eth2": (0, 99)}) == [
        "tor0-eth2: sent 94 frames when no frame was expected"
    ]
    assert moved({}, {}) == []


class Machine:
    """Two hosts, a /proc that tells of them, and a clock that moves when somebody sleeps."""

    def __init__(self, proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proc = proc
        self.now_s = 0.0
        self.on_sleep: Callable[[], None] = lambda: None
        self.shown = json.dumps([queue("tor0-eth1", 0)])
        (proc / "net").mkdir()
        (proc / "net/dev").write_text(devices(3))
        for process in (11, 12):
            self.add(process, process, "bash --norc")
            (proc / f"{process}/net").mkdir()
            (proc / f"{process}/net/tcp").write_text(NOBODY)
        monkeypatch.setattr(clean_state, "run", lambda *_: self.shown)

    def add(self, process: int, namespace: int, words: str) -> None:
        """A process in the network namespace that belongs to another one."""
        (self.proc / f"{process}/ns").mkdir(parents=True)
        held = self.proc / f"{namespace}/ns/net"
        if process == namespace:
            held.touch()
        else:
            os.link(held, self.proc / f"{process}/ns/net")
        (self.proc / f"{process}/cmdline").write_bytes(words.replace(" ", "\0").encode() + b"\0")

    def prove(self) -> dict[str, Any]:
        instances = [SimpleNamespace(name="h0"), SimpleNamespace(name="h1")]
        net = {"h0": SimpleNamespace(pid=11), "h1": SimpleNamespace(pid=12)}
        up: Any = SimpleNamespace(fabric=SimpleNamespace(instances=instances), net=net)
        return CleanState(up, proc=self.proc, clock=lambda: self.now_s, sleep=self._sleep).prove()

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.on_sleep()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_an_idle_fabric_is_clean_at_once(machine: Machine) -> None:
    assert machine.prove() == {"clean": True, "took_s": 0.0, "left": [], "carried_bytes": 21}


def test_what_ends_by_itself_is_waited_for(machine: Machine) -> None:
    table = machine.proc / "12/net/tcp"
    table.write_text(TCP)
    machine.on_sleep = lambda: table.write_text(NOBODY) if machine.now_s > 0.3 else None  # type: ignore[assignment]
    found = machine.prove()
    assert (found["clean"], found["left"]) == (True, [])
    assert 0.3 < found["took_s"] < 0.4


def test_what_does_not_end_is_named_at_the_deadline(machine: Machine) -> None:
    machine.add(77, 12, "iperf -c 10.0.0.1")
    machine.add(78, 78, "somebody elsewhere")
    (machine.proc / "11/net/tcp").write_text(TCP)
    machine.shown = json.dumps([queue("tor0-eth1", 4)])
    found = machine.prove()
    assert not found["clean"]
    assert found["took_s"] == pytest.approx(DEADLINE_S, abs=0.1)
    assert found["left"][0] == "h1: process 77 runs: iperf -c 10.0.0.1"
    assert "h0: tcp established 10.0.0.1:7001 to 10.0.0.2:50000" in found["left"]
    assert "tor0-eth1: 4 frames of 6056 bytes wait in its pfifo queue" in found["left"]
    assert len(found["left"]) == 4


def test_of_much_that_is_left_the_first_is_named_and_the_rest_counted(machine: Machine) -> None:
    machine.shown = "\n".join(["", json.dumps([queue(f"tor0-eth{port}", 1) for port in range(8)]), ""])
    found = machine.prove()
    assert len(found["left"]) == 6
    assert found["left"][-1] == "and 3 more"


@pytest.mark.parametrize(("key", "verdict"), [("clean_start", "invalid"), ("clean_end", "suspect")])
def test_a_run_on_a_fabric_that_is_not_clean_says_so_in_its_verdict(key: str, verdict: str) -> None:
    proof = {"clean": False, "took_s": 5.0, "left": ["h3: process 77 runs: iperf"]}
    judged = judge(Scenario(), Outcome(evidence={key: proof}))
    assert judged["verdict"] == verdict
    assert judged["worst"] == key
    assert "(5.0 s waited): h3: process 77 runs: iperf; run again" in judged["reasons"][0]
