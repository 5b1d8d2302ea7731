"""The ALTO server over HTTP: media types, status codes, and bounds on whatever a client does."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import numpy as np
import pytest

from controller.alto import alto_server
from controller.alto.alto_server import AltoServer
from controller.alto.fabric_costs import AltoSnapshot
from tests.support.paths import ROOT
from topologies import FabricSpec, build_fattree

pytestmark = pytest.mark.xdist_group("ports")

FABRIC = build_fattree(FabricSpec())
DEADLINE_S = 60.0
COSTS = {"Content-Type": "application/alto-costmapfilter+json"}
UPDATES = {"Content-Type": "application/alto-updatestreamparams+json"}
BW = {"cost-type": {"cost-mode": "numerical", "cost-metric": "bw-available"}}
WATCH = {"add": {"bw": {"resource-id": "costmap-bw-available"}}}


FIRST = AltoSnapshot(1_700_000_000.0, np.full(len(FABRIC.links), 0.25))


class Served:
    """A server in a thread with its own loop; `snapshot` is what its source says."""

    def __init__(self, snapshot: AltoSnapshot | None = FIRST) -> None:
        self.snapshot = snapshot
        self.port = 0
        self._bound = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._bound.wait(DEADLINE_S)

    def _run(self) -> None:
        async def serve() -> None:
            self.server = AltoServer(FABRIC, lambda: self.snapshot, every_s=0.01)
            self.port = self.server.listen(0)
            self._loop = asyncio.get_running_loop()
            self._watch = asyncio.current_task()
            self._bound.set()
            with suppress(asyncio.CancelledError):
                await self.server.watch()

        asyncio.run(serve())

    def stop(self) -> None:
        assert self._watch is not None
        self._loop.call_soon_threadsafe(self._watch.cancel)
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def ask(
        self, method: str, path: str, document: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        body = document if isinstance(document, bytes | None) else json.dumps(document).encode()
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        connection.close()
        return found

    def until(self, condition: Callable[[], bool]) -> None:
        until_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < until_s
            time.sleep(0.01)


@pytest.fixture(name="served")
def _served() -> Iterator[Served]:
    served = Served()
    served.until(lambda: served.server.snapshot is not None)
    yield served
    served.stop()


def event_of(stream: http.client.HTTPResponse) -> tuple[str, str]:
    """The next event of a stream, comments left out."""
    kind, data = "", []
    while True:
        line = stream.readline().decode().rstrip("\n")
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data.append(line.removeprefix("data: "))
        elif not line and kind:
            return kind, "\n".join(data)


def watch(served: Served, request: Any = WATCH) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=DEADLINE_S)
    connection.request("POST", "/updates", json.dumps(request), UPDATES)
    return connection, connection.getresponse()


def test_every_resource_that_is_read_whole_has_the_media_type_of_the_directory(served: Served) -> None:
    status, headers, body = served.ask("GET", "/directory")
    assert (status, headers["content-type"]) == (200, "application/alto-directory+json")
    whole = [entry for entry in json.loads(body)["resources"].values() if "accepts" not in entry]
    assert len(whole) == 8
    for entry in whole:
        status, headers, body = served.ask("GET", entry["uri"])
        assert (status, headers["content-type"]) == (200, entry["media-type"])
        assert "meta" in json.loads(body)


def test_an_answer_says_when_its_sample_was_taken(served: Served) -> None:
    """RFC 9439, 6.2: Last-Modified."""
    _, headers, _ = served.ask("GET", "/costmap/bw-available")
    assert parsedate_to_datetime(headers["last-modified"]).timestamp() == 1_700_000_000


def test_a_request_is_answered_with_the_media_type_that_it_asked_for(served: Served) -> None:
    status, headers, body = served.ask("POST", "/costmap/filtered", BW, COSTS)
    assert (status, headers["content-type"]) == (200, "application/alto-costmap+json")
    assert json.loads(body)["cost-map"]["srv0"]["srv1"] == 0.75 * 25e9


def test_path_vectors_come_in_parts(served: Served) -> None:
    given = {"cost-type": {"cost-mode": "array", "cost-metric": "ane-path"}}
    status, headers, body = served.ask("POST", "/costmap/pv", given, COSTS)
    assert status == 200
    kind, *parameters = (part.strip() for part in headers["content-type"].split(";"))
    assert kind == "multipart/related"
    assert "type=application/alto-costmap+json" in parameters
    boundary = next(part for part in parameters if part.startswith("boundary=")).removeprefix("boundary=")
    assert body.startswith(f"--{boundary}\r\n".encode())


@pytest.mark.parametrize(
    ("method", "path", "document", "headers", "status"),
    [
        ("GET", "/nowhere", None, {}, 404),
        ("POST", "/nowhere", {}, COSTS, 404),
        ("GET", "/costmap/filtered", None, {}, 405),
        ("POST", "/networkmap", {}, COSTS, 405),
        ("PUT", "/networkmap", {}, COSTS, 405),
        ("POST", "/costmap/filtered", BW, {"Content-Type": "application/json"}, 415),
        ("POST", "/updates/streams/0123", {"remove": ["a"]}, UPDATES, 404),
    ],
)
def test_what_is_not_there_is_said_in_http(
    served: Served, method: str, path: str, document: Any, headers: dict[str, str], status: int
) -> None:
    found, sent, _ = served.ask(method, path, document, headers)
    assert found == status
    if status == 405 and method != "PUT":
        assert sent["allow"] == ("POST" if method == "GET" else "GET")


@pytest.mark.parametrize(
    ("body", "code"), [(b"{", "E_SYNTAX"), (b"{}", "E_MISSING_FIELD"), (b'{"cost-type": 1}', "E_INVALID_FIELD_TYPE")]
)
def test_an_error_is_an_alto_error(served: Served, body: bytes, code: str) -> None:
    status, headers, answer = served.ask("POST", "/costmap/filtered", body, COSTS)
    assert (status, headers["content-type"]) == (400, "application/alto-error+json")
    assert json.loads(answer)["meta"]["code"] == code


def test_before_the_first_snapshot_a_client_is_asked_to_come_again() -> None:
    served = Served(None)
    try:
        status, headers, _ = served.ask("GET", "/costmap/bw-available")
        assert (status, headers["retry-after"]) == (503, "1")
        assert served.ask("GET", "/costmap/bw-residual")[0] == 200
    finally:
        served.stop()


def test_an_older_snapshot_never_replaces_a_newer_one(served: Served) -> None:
    served.snapshot = AltoSnapshot(1_600_000_000.0, np.zeros(len(FABRIC.links)))
    time.sleep(0.05)  # the source is read every 10 ms
    assert served.ask("GET", "/costmap/bw-available")[1]["last-modified"].endswith("2023 22:13:20 GMT")


def test_a_stream_tells_what_changes_and_is_controlled_from_outside(served: Served) -> None:
    connection, stream = watch(served)
    assert stream.getheader("Content-Type") == "text/event-stream"
    kind, data = event_of(stream)
    assert kind == "application/alto-updatestreamcontrol+json"
    control = json.loads(data)["control-uri"].partition(str(served.port))[2]
    assert event_of(stream)[0] == "application/alto-costmap+json,bw"
    served.snapshot = AltoSnapshot(1_700_000_001.0, np.full(len(FABRIC.links), 0.5))
    kind, data = event_of(stream)
    assert kind == "application/merge-patch+json,bw"
    assert json.loads(data)["cost-map"]["srv0"]["srv1"] == 0.5 * 25e9
    assert served.ask("POST", control, {"remove": ["other"]}, UPDATES)[0] == 400
    assert served.ask("POST", control, {"remove": ["bw"]}, {"Content-Type": "text/plain"})[0] == 415
    assert served.ask("POST", control, {"remove": ["bw"]}, UPDATES)[0] == 204
    assert json.loads(event_of(stream)[1]) == {"stopped": ["bw"]}
    assert stream.read() == b""  # nothing is watched any more: the server has ended the stream
    connection.close()
    served.until(lambda: not served.server.streams)


def test_a_wrong_stream_request_is_an_alto_error(served: Served) -> None:
    _, stream = watch(served, {"add": {"x": {"resource-id": "endpointprop"}}})
    assert (stream.status, stream.getheader("Content-Type")) == (400, "application/alto-error+json")


def test_a_stream_whose_client_has_left_is_forgotten(served: Served) -> None:
    connection, stream = watch(served)
    event_of(stream)
    assert len(served.server.streams) == 1
    stream.close()
    connection.close()
    served.until(lambda: not served.server.streams)


def test_streams_have_a_bound(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alto_server, "MOST_STREAMS", 1)
    connection, stream = watch(served)
    event_of(stream)
    assert watch(served)[1].status == 503
    stream.close()
    connection.close()


def test_connections_have_a_bound(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alto_server, "MOST_CONNECTIONS", 2)
    idle = [socket.create_connection(("127.0.0.1", served.port), DEADLINE_S) for _ in range(2)]
    for one in idle:
        one.sendall(b"GET /networkmap HTTP/1.1\r\nHost: x\r\n\r\n")
        assert one.recv(100).startswith(b"HTTP/1.1 200")
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        served.ask("GET", "/networkmap")
    for one in idle:
        one.close()

    def free() -> bool:
        with suppress(ConnectionError, http.client.BadStatusLine):
            return served.ask("GET", "/networkmap")[0] == 200
        return False

    served.until(free)


def test_who_does_not_finish_a_request_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alto_server, "IDLE_S", 0.3)
    monkeypatch.setattr(alto_server, "BODY_S", 0.3)
    served = Served()
    try:
        head = b"POST /costmap/filtered HTTP/1.1\r\nHost: x\r\nContent-Type: application/alto-costmapfilter+json\r\n"
        for sent in (b"", b"GET /netw", head + b"Content-Length: 99\r\n\r\n{"):
            with socket.create_connection(("127.0.0.1", served.port), DEADLINE_S) as slow:
                slow.sendall(sent)
                while slow.recv(100):
                    pass  # until the server closes
    finally:
        served.stop()


def test_a_body_beyond_the_bound_is_not_read(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), DEADLINE_S) as large:
        large.sendall(
            b"POST /costmap/filtered HTTP/1.1\r\nHost: x\r\nContent-Type: application/alto-costmapfilter+json\r\n"
            b"Content-Length: 99999999\r\n\r\n"
        )
        answer = b""
        while chunk := large.recv(1000):
            answer += chunk
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert served.ask("GET", "/networkmap")[0] == 200


def test_a_client_that_does_not_read_its_stream_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alto_server, "WRITE_S", 0.3)
    served = Served()
    try:
        many = {f"s{n}": {"resource-id": "costmap-bw-available", "incremental-changes": False} for n in range(16)}
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            deaf.connect(("127.0.0.1", served.port))
            body = json.dumps({"add": many}).encode()
            kind = "application/alto-updatestreamparams+json"
            head = f"POST /updates HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
            deaf.sendall(head.encode() + body)
            served.until(lambda: bool(served.server.streams))
            changed = 0

            def gone() -> bool:
                nonlocal changed
                changed += 1
                served.snapshot = AltoSnapshot(
                    1_700_000_000.0 + changed, np.full(len(FABRIC.links), 0.1 * (changed % 9))
                )
                return not served.server.streams

            served.until(gone)
    finally:
        served.stop()


def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            AltoServer(FABRIC, lambda: None).listen(taken.getsockname()[1])


INTERRUPTED = """
import asyncio, os, signal, sys
from controller import serve_alto
from tests.support.paths import ROOT
from topologies import FabricSpec, build_fattree

class Interrupted(BaseException):
    pass

def interrupt(number, _):
    raise Interrupted

def say(_):
    asyncio.get_running_loop().call_later(0.1, lambda: os.kill(os.getpid(), signal.SIGTERM))

signal.signal(signal.SIGTERM, interrupt)
try:
    serve_alto(build_fattree(FabricSpec()), lambda: None, 0, say=say)
except Interrupted:
    sys.exit(7)
"""


def test_a_signal_that_comes_inside_a_callback_ends_the_server() -> None:
    """What its handler raises there is logged by asyncio, and goes no further."""
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, cwd=ROOT, timeout=60, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (7, "")
