"""The published document and its socket: the schema holds, and what is stale or abandoned never looks alive."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.config import ControllerConfig
from controller.cost_document import Instant, cost_document, one_line
from controller.counters import LinkCounters, PortCounters
from controller.oracle_socket import OracleSocket, OracleSocketError
from controller.polls import PollStatistics
from controller.schema import SchemaError, check_document
from topologies import FabricSpec, build_fattree

pytestmark = pytest.mark.xdist_group("ports")

FABRIC = build_fattree(FabricSpec())
CONFIG = ControllerConfig()
DEADLINE_S = 60.0


def document(counters: LinkCounters, programmed: set[int]) -> dict[str, Any]:
    now = Instant(monotonic_s=1_000.0, unix_s=1_700_000_000.0)
    polls = PollStatistics(FABRIC.switch_by_dpid)
    polls.answered(0x1001, 0.003)
    made = cost_document(
        FABRIC, CONFIG, counters, programmed=programmed, packet_ins=0, sequence=1, now=now, polls=polls
    )
    read: dict[str, Any] = json.loads(one_line(made))
    check_document(read)
    return read


def sweep(counters: LinkCounters, at_s: float, sent_bytes: int) -> None:
    ports = [PortCounters(port, sent_bytes, sent_bytes, at_s) for port in range(1, 9)]
    for switch in FABRIC.switches:
        counters.record(switch.dpid, ports, requested_s=at_s, arrived_s=at_s)


def fresh() -> LinkCounters:
    return LinkCounters(FABRIC, rate_scale=CONFIG.rate_scale, poll_s=CONFIG.poll_s)


def test_before_the_first_sample_nothing_looks_measured() -> None:
    found = document(fresh(), programmed=set())
    assert (found["complete"], found["sampled_monotonic_s"], found["sampled_unix_s"]) == (False, None, None)
    assert (found["switches_expected"], found["switches_programmed"]) == (20, 0)
    assert found["switches_missing"] == [switch.name for switch in FABRIC.switches]
    assert all(link["utilisation"] is None for link in found["links"].values())


def test_a_complete_document_is_as_old_as_its_oldest_sample_on_both_clocks() -> None:
    counters = fresh()
    sweep(counters, 990.0, 0)
    sweep(counters, 990.5, 250_000)  # 4 Mbit/s of 10
    found = document(counters, programmed={switch.dpid for switch in FABRIC.switches})
    assert found["complete"]
    assert (found["switches_programmed"], found["switches_missing"]) == (20, [])
    assert (found["sampled_monotonic_s"], found["sampled_unix_s"]) == (990.5, 1_700_000_000.0 - 9.5)
    assert list(found["links"]) == [link.name for link in FABRIC.links]
    assert found["links"]["agg0>core0"] == {"utilisation": 0.4, "capacity_bps": 50e9, "bytes": 250_000}
    assert [tier["bandwidth_bps"] for tier in found["tiers"]] == [3.6e12, 200e9, 100e9, 50e9]
    assert [tier["latency_s"] for tier in found["tiers"]] == pytest.approx([2e-6, 4e-6, 6e-6, 8e-6])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema": "netkv.cost/v2"}, "schema: 'netkv.cost/v1' was expected"),
        ({"links": {"a>b": {"utilisation": 2, "capacity_bps": 1, "bytes": 0}}}, "links.a>b.utilisation: 2 is greater"),
        ({"complete": True}, "sampled_.*_s: None is not of type 'number'"),
        ({"polls_missed": -1}, "polls_missed: -1 is less than the minimum"),
    ],
)
def test_a_document_that_is_not_ours_is_named_with_its_place(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SchemaError, match=complaint):
        check_document(document(fresh(), programmed=set()) | change)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run" / "oracle.sock")


def spawn(function: Callable[..., Any], *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


@pytest.fixture
def documents() -> list[bytes]:
    """What has been published; the last one is the latest."""
    return [b'{"sequence":1}\n']


@pytest.fixture
def served(path: str, documents: list[bytes]) -> Iterator[OracleSocket]:
    oracle = OracleSocket(path, spawn, lambda: documents[-1])
    spawn(oracle.serve)
    yield oracle
    oracle.close()


def connect(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(DEADLINE_S)
    client.connect(path)
    return client


@pytest.mark.usefixtures("served")
def test_each_line_gets_the_latest_document_on_one_connection(path: str, documents: list[bytes]) -> None:
    with connect(path) as client, client.makefile("rb") as answers:
        client.sendall(b"\n")
        assert answers.readline() == b'{"sequence":1}\n'
        documents.append(b'{"sequence":2}\n')
        client.sendall(b"any words at all")
        client.sendall(b", then the end of the line\nand another\n")
        assert [answers.readline(), answers.readline()] == [b'{"sequence":2}\n'] * 2


@pytest.mark.usefixtures("served")
def test_a_client_that_reads_nothing_stops_nobody_else(path: str, documents: list[bytes]) -> None:
    documents.append(b"x" * 1_000_000 + b"\n")
    with connect(path) as deaf, connect(path) as other, other.makefile("rb") as answers:
        deaf.sendall(b"\n" * 100)
        other.sendall(b"\n")
        assert len(answers.readline()) == 1_000_001


def test_closing_takes_the_name_away(path: str) -> None:
    OracleSocket(path, spawn, bytes).close()
    assert not Path(path).exists()


def test_the_name_left_by_a_killed_controller_is_taken_over(path: str) -> None:
    Path(path).parent.mkdir()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)  # and never unlinked
    oracle = OracleSocket(path, spawn, bytes)
    spawn(oracle.serve)
    connect(path).close()
    oracle.close()


@pytest.mark.usefixtures("served")
def test_the_name_of_a_live_controller_is_left_alone(path: str) -> None:
    with pytest.raises(OracleSocketError, match=r"oracle\.sock: Address already in use"):
        OracleSocket(path, spawn, bytes)
    connect(path).close()


def test_a_file_that_is_no_socket_is_left_alone(path: str) -> None:
    Path(path).parent.mkdir()
    Path(path).write_text("precious", encoding="utf-8")
    with pytest.raises(OracleSocketError, match="Address already in use"):
        OracleSocket(path, spawn, bytes)
    assert Path(path).read_text(encoding="utf-8") == "precious"
