"""ECMP truth: the walk from switch to switch, against a fake Open vSwitch, and the socket it is asked through."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving import Outcome, RequestRecord
from testbed.ecmp import UNKNOWN, PathTracer, TracedConnection, trace_paths
from testbed.errors import TestbedError
from testbed.vswitchd import VSwitchd
from topologies import Fabric, FabricSpec, build_fattree
from topologies.mininet import interface_of


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return build_fattree(FabricSpec())


class FakeSwitches:
    """Answers as ovs-vswitchd prints; every switch sends up by its `up[switch]`-th uplink."""

    def __init__(self, fabric: Fabric, up: dict[str, int]) -> None:
        self._fabric = fabric
        self._up = up
        # Alike on all switches, as where each has its own daemon; of one daemon they would differ.
        self._number = {interface_of(link): 100 + link.source_port for link in fabric.links}
        self.asked: list[str] = []

    def ask(self, command: str, *arguments: str) -> str:
        if command == "dpif/show":
            return "netdev@ovs-netdev: hit:28 missed:16\n" + "".join(
                f"    {name} {name.partition('-eth')[2]}/{number}: (system)\n" for name, number in self._number.items()
            )
        switch, flow = arguments
        assert re.search(r"in_port=\d+,(tcp|udp),dl_src=02:.*,dl_dst=02:.*,(tcp|udp)_src=\d+,(tcp|udp)_dst=7001$", flow)
        self.asked.append(switch)
        if switch not in self._up:
            return "Final flow: unchanged\nDatapath actions: hash(l4(0)),recirc(0x1)\n"
        levels = {node.name: node.level for node in self._fabric.switches}
        uplinks = [link for link in self._fabric.links_from[switch] if levels.get(link.target, -1) > levels[switch]]
        leaves_by = interface_of(uplinks[self._up[switch]])
        return f"Final flow: unchanged\nDatapath actions: {self._number[leaves_by]}\n"


def test_switches_are_asked_once_of_a_connection_that_many_transfers_used(fabric: Fabric) -> None:
    switches = FakeSwitches(fabric, {"tor0": 0, "agg0": 1})
    tracer = PathTracer(fabric, switches.ask)
    first = tracer.path(TracedConnection(0, 8, 40_000, 7001))
    assert [tracer.path(TracedConnection(0, 8, 40_000, 7001)) for _ in range(3)] == [first] * 3
    assert switches.asked == ["tor0", "agg0"]
    tracer.path(TracedConnection(0, 8, 40_001, 7001))
    assert switches.asked == ["tor0", "agg0"] * 2


@pytest.mark.parametrize("aggregation", [0, 1])
@pytest.mark.parametrize("core", [0, 1])
def test_a_cross_pod_path_is_the_one_that_tor_and_aggregation_chose(
    fabric: Fabric, aggregation: int, core: int
) -> None:
    switches = FakeSwitches(fabric, {"tor0": aggregation, f"agg{aggregation}": core})
    path = fabric.paths(0, 8)[PathTracer(fabric, switches.ask).path(TracedConnection(0, 8, 40_000, 7001))]
    nodes = [fabric.links[link].target for link in path]
    assert nodes[2:5] == [f"agg{aggregation}", f"core{2 * aggregation + core}", f"agg{2 + aggregation}"]
    assert switches.asked == ["tor0", f"agg{aggregation}"]  # where the paths part, and nowhere else


@pytest.mark.parametrize("target", [1, 2])
def test_where_there_is_one_path_nobody_is_asked(fabric: Fabric, target: int) -> None:
    switches = FakeSwitches(fabric, {})
    assert PathTracer(fabric, switches.ask).path(TracedConnection(0, target, 40_000, 7001)) == 0
    assert switches.asked == []


def test_a_switch_that_does_not_say_leaves_the_path_unknown(fabric: Fabric) -> None:
    assert PathTracer(fabric, FakeSwitches(fabric, {}).ask).path(TracedConnection(0, 8, 40_000, 7001)) == UNKNOWN


class Connected:
    """A context in which fake switches can be asked."""

    def __init__(self, switches: FakeSwitches) -> None:
        self.ask = switches.ask

    def __enter__(self) -> Connected:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was opened."""


def test_every_stripe_and_every_background_connection_gets_a_row_and_every_decision_its_paths(fabric: Fabric) -> None:
    record = RequestRecord(7, 0.0, 100, 5, "cla", kv_transfer_ms=500.0)
    decision: dict[str, Any] = {
        **{"request_id": 7, "prefill_id": 0, "decode_id": 4, "kv_bytes": 100},
        **{"source_ports": [40_000, 40_001], "target_port": 7001, "retransmitted": [0, 3], "transfer_started_s": 2.0},
    }
    flow = {
        **{"flow_id": 3, "source": 8, "target": 0, "started_s": 1.0, "ended_s": 4.0, "bytes": 30.0},
        **{"source_ports": [50_000], "retransmitted": [9], "rate_bps": None, "protocol": "tcp"},
    }
    cached = RequestRecord(8, 0.0, 100, 5, "cla")
    outcome = Outcome(
        requests=[record, cached], decisions=[decision, {"request_id": 8, "kv_bytes": 0}], background=[flow]
    )
    switches = FakeSwitches(fabric, {"tor0": 1, "tor2": 0, "agg2": 1})
    trace_paths(fabric, outcome, 7001, lambda: Connected(switches))  # type: ignore[arg-type, return-value]
    assert [
        (row["owner"], row["number"], row["connection"], row["path"], row["retransmitted"]) for row in outcome.paths
    ] == [
        ("transfer", 7, 0, 1, 0),
        ("transfer", 7, 1, 1, 3),
        ("background", 3, 0, 1, 9),
    ]
    assert outcome.paths[0]["links"] == ["h0>srv0", "srv0>tor0", "tor0>agg1", "agg1>tor1", "tor1>srv2", "srv2>h4"]
    assert (outcome.paths[0]["started_s"], outcome.paths[0]["ended_s"], outcome.paths[0]["bytes"]) == (2.0, 2.5, 50)
    assert [row["paths"] for row in outcome.decisions] == [[1, 1], []]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Path]:
    """A control socket that echoes what it was asked, in two pieces, and refuses `no/such`."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "ovs-vswitchd.1.ctl"))
    listener.listen()

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            while question := peer.recv(1 << 16):
                asked = json.loads(question)
                refused = "not a valid command" if asked["method"] == "no/such" else None
                result = None if refused else f"{asked['method']} {{{' '.join(asked['params'])}}}"
                text = json.dumps({"id": asked["id"], "result": result, "error": refused}).encode()
                peer.sendall(text[:12])
                peer.sendall(text[12:])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield tmp_path
    listener.close()
    thread.join(5)


def test_an_answer_in_pieces_is_put_together_and_a_refusal_is_an_error(daemon: Path) -> None:
    with VSwitchd(daemon) as vswitchd:
        assert vswitchd.ask("ofproto/trace", "tor0", "tcp") == "ofproto/trace {tor0 tcp}"
        assert vswitchd.ask("dpif/show") == "dpif/show {}"
        with pytest.raises(TestbedError, match="refused `no/such`: not a valid command"):
            vswitchd.ask("no/such")


def test_where_no_daemon_runs_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(TestbedError, match="no ovs-vswitchd is running"), VSwitchd(tmp_path):
        pass
