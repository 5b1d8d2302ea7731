"""The ALTO server beside an oracle: it says what the oracle's document says, and nothing before there is one."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.config import ControllerConfig
from controller.cost_document import Instant, cost_document, one_line
from controller.counters import LinkCounters, PortCounters
from controller.oracle_socket import OracleSocket
from controller.polls import PollStatistics
from testbed import fabric_up
from testbed.alto_gateway import OracleSource
from testbed.emulation import EmulationSpec
from testbed.errors import TestbedError
from testbed.fabric_up import FabricUp
from topologies import FabricSpec, build_fattree

pytestmark = pytest.mark.xdist_group("ports")

FABRIC = build_fattree(FabricSpec())
DEADLINE_S = 60.0


def document(carried_bytes: int | None) -> bytes:
    """A published document in which every link has carried so many bytes in its last second; None: not measured."""
    config = ControllerConfig()
    counters = LinkCounters(FABRIC, rate_scale=config.rate_scale, poll_s=1.0)
    for at_s, sent in ((999.0, 0), (1000.0, carried_bytes)) if carried_bytes is not None else ():
        ports = [PortCounters(port, sent, sent, at_s) for port in range(1, 9)]
        for switch in FABRIC.switches:
            counters.record(switch.dpid, ports, requested_s=at_s, arrived_s=at_s)
    polls = PollStatistics(FABRIC.switch_by_dpid)
    now = Instant(1000.5, 1_700_000_000.5)
    made = cost_document(FABRIC, config, counters, programmed=set(), packet_ins=0, sequence=1, now=now, polls=polls)
    return one_line(made)


@pytest.fixture(name="published")
def _published(tmp_path: Path) -> Iterator[list[bytes]]:
    """The documents published at `oracle.sock`, the last one now."""
    documents = [document(None)]

    def spawn(*work: Any) -> None:
        threading.Thread(target=work[0], args=work[1:], daemon=True).start()

    oracle = OracleSocket(str(tmp_path / "oracle.sock"), spawn, lambda: documents[-1])
    spawn(oracle.serve)
    yield documents
    oracle.close()


def until(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


def test_a_snapshot_is_the_document_with_its_unix_time(tmp_path: Path, published: list[bytes]) -> None:
    source = OracleSource(FABRIC, tmp_path / "oracle.sock")
    assert source() is None
    assert "sampled_monotonic_s" in source.problem
    published.append(document(1_000_000))
    found = source()
    assert found is not None
    assert found.sampled_unix_s == 1_700_000_000.0
    links = json.loads(published[-1])["links"].values()
    assert found.utilisation == pytest.approx(np.minimum([link["utilisation"] for link in links], 1.0))
    assert source.problem == ""


def test_a_document_without_a_unix_time_is_none(tmp_path: Path, published: list[bytes]) -> None:
    source = OracleSource(FABRIC, tmp_path / "oracle.sock")
    published.append(document(1_000_000))
    assert source() is not None
    published.append(one_line(json.loads(published[-1]) | {"sampled_unix_s": "now"}))
    assert source() is None
    assert source.problem == "sampled_unix_s: a number was expected"


def test_where_nobody_publishes_there_is_no_snapshot(tmp_path: Path) -> None:
    source = OracleSource(FABRIC, tmp_path / "nobody.sock")
    assert source() is None
    assert "nobody.sock" in source.problem


@pytest.fixture(name="up")
def _up(tmp_path: Path, published: list[bytes], monkeypatch: pytest.MonkeyPatch) -> FabricUp:
    """A fabric of which only the oracle is there."""
    config = tmp_path / "controller.json"
    config.write_text(
        json.dumps({"fabric": asdict(FABRIC.spec), "poll_s": 0.05, "oracle_socket": str(tmp_path / "oracle.sock")})
    )
    monkeypatch.setattr(fabric_up, "CONTROLLER_CONFIG", config)
    monkeypatch.setattr(fabric_up, "ALTO_LOG", tmp_path / "alto.log")
    return FabricUp(FABRIC, EmulationSpec(datapath="user"), 0.05, 0)


def test_a_fabric_starts_its_server_which_serves_what_the_oracle_publishes(
    up: FabricUp, published: list[bytes]
) -> None:
    port = free_port()
    process = up.start_alto(port)
    try:
        url = f"http://127.0.0.1:{port}/costmap/bw-available"
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(url, timeout=DEADLINE_S)
        published.append(document(1_000_000))

        def answered() -> bool:
            try:
                with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
                    found = json.load(answer)["cost-map"]["srv0"]["srv1"]
            except urllib.error.HTTPError:
                return False
            links = json.loads(published[-1])["links"]
            assert found == pytest.approx(25e9 * (1 - links["srv0>tor0"]["utilisation"]), rel=1e-4)
            return True

        until(answered)
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()


def test_a_server_that_cannot_start_is_an_error_of_one_line(up: FabricUp) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(TestbedError, match=f"alto_port: {port}: .*in use"):
            up.start_alto(port)
