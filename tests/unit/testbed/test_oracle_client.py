"""Our client of the oracle's socket: whole lines, one connection, and nothing that the schema does not allow."""

from __future__ import annotations

import json
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
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


# A publisher that lies


class Liar:
    """A socket whose every connection is answered by `lie(peer)`."""

    def __init__(self, path: Path, lie: Callable[[socket.socket], None]) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._lie = lie
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            peer, _ = self._listener.accept()
            with peer, suppress(OSError):
                peer.recv(1)
                self._lie(peer)


def without_end(peer: socket.socket) -> None:
    while True:
        peer.sendall(b"[" * 65_536)


def drop_by_drop(peer: socket.socket) -> None:
    while True:
        peer.sendall(b" ")
        threading.Event().wait(0.01)


def sending(data: bytes) -> Callable[[socket.socket], None]:
    return lambda peer: peer.sendall(data)


GOOD = one_line(document())


@pytest.mark.parametrize(
    ("lie", "deadline_s", "complaint"),
    [
        (without_end, DEADLINE_S, "a document of more than 16 MiB: one line was expected"),
        (drop_by_drop, 0.1, "timed out"),
        (sending(GOOD[:200]), DEADLINE_S, "the controller closed the connection"),
        (sending(b"[" * 100_000 + b"\n"), DEADLINE_S, "nested too deep"),
        (sending(GOOD.replace(b'"sequence":1', b'"sequence":NaN')), DEADLINE_S, "NaN is no number of JSON"),
        (sending(b'{"schema": 1,' + GOOD[1:]), DEADLINE_S, "a name is there twice"),
        (sending(b"[]\n"), DEADLINE_S, "an object was expected, not list"),
    ],
)
def test_a_lie_is_refused_in_time(
    tmp_path: Path, lie: Callable[[socket.socket], None], deadline_s: float, complaint: str
) -> None:
    Liar(tmp_path / "oracle.sock", lie)
    client = OracleClient(tmp_path / "oracle.sock")
    with pytest.raises(OracleUnavailableError, match=complaint):
        client.fetch(deadline_s)


def test_documents_that_nobody_asked_for_are_not_believed_later(tmp_path: Path) -> None:
    Liar(tmp_path / "oracle.sock", sending(GOOD + GOOD))
    client = OracleClient(tmp_path / "oracle.sock")
    assert client.fetch(DEADLINE_S)["sequence"] == 1
    with pytest.raises(OracleUnavailableError, match="more than was asked for came"):
        client.fetch(DEADLINE_S)


def test_the_socket_is_its_owners_alone(client: OracleClient, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "oracle.sock").stat().st_mode) == 0o600
