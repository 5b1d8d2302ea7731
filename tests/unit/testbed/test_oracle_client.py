"""Our client of the oracle's socket: whole lines, one connection, and nothing that the schema does not allow."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.config import ControllerConfig
from controller.cost_document import Instant, cost_document, one_line
from controller.counters import LinkCounters
from controller.oracle_socket import OracleSocket
from controller.polls import PollStatistics
from testbed.oracle_client import OracleClient, OracleUnavailableError
from topologies import FabricSpec, build_fattree

DEADLINE_S = 60.0


def document(**changes: Any) -> dict[str, Any]:
    fabric, config = build_fattree(FabricSpec()), ControllerConfig()
    counters = LinkCounters(fabric, rate_scale=config.rate_scale, poll_s=config.poll_s)
    made = cost_document(
        fabric,
        config,
        counters,
        programmed=set(),
        packet_ins=0,
        sequence=1,
        now=Instant(1.0, 2.0),
        polls=PollStatistics(fabric.switch_by_dpid),
    )
    return made | changes


@pytest.fixture
def published() -> list[bytes]:
    return [one_line(document())]


@pytest.fixture
def client(tmp_path: Path, published: list[bytes]) -> Iterator[OracleClient]:
    def spawn(*work: Any) -> None:
        threading.Thread(target=work[0], args=work[1:], daemon=True).start()

    oracle = OracleSocket(str(tmp_path / "oracle.sock"), spawn, lambda: published[-1])
    spawn(oracle.serve)
    made = OracleClient(tmp_path / "oracle.sock")
    yield made
    made.close()
    oracle.close()


def test_every_fetch_reads_the_document_of_then(client: OracleClient, published: list[bytes]) -> None:
    assert client.fetch(DEADLINE_S)["sequence"] == 1
    published.append(one_line(document(sequence=2)))
    assert client.fetch(DEADLINE_S)["sequence"] == 2


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (json.dumps(document(schema="netkv.cost/v9")).encode() + b"\n", "schema: 'netkv.cost/v1' was expected"),
        (json.dumps(document(poll_s=0)).encode() + b"\n", "poll_s: 0 is less than or equal to the minimum"),
        (b'{"sequence": 1}\n', "'.*' is a required property"),
        (b"no JSON\n", "Expecting value"),
    ],
)
def test_a_publisher_of_something_else_is_refused_until_it_is_fixed(
    client: OracleClient, published: list[bytes], line: bytes, complaint: str
) -> None:
    published.append(line)
    for _ in range(2):
        with pytest.raises(OracleUnavailableError, match=rf"oracle\.sock: .*{complaint}"):
            client.fetch(DEADLINE_S)
    published.append(one_line(document(sequence=3)))
    assert client.fetch(DEADLINE_S)["sequence"] == 3
