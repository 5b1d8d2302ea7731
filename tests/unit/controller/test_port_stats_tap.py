"""The tap on a connection: real eventlet sockets, a process of its own because eventlet patches the one it is in."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from controller.driver import DRIVERS
from tests.support.paths import ROOT

pytestmark = pytest.mark.xdist_group("frameworks")

CONNECTION = """
import importlib, json, struct, sys
from controller.driver import prepare
prepare(sys.argv[1])
hub = importlib.import_module(sys.argv[1] + ".lib.hub")
import eventlet
from eventlet import hubs
from eventlet.green import socket
from controller.port_stats import request
from controller.port_stats_tap import PortStatsTap

listener = eventlet.listen(("127.0.0.1", 0))
switch = socket.create_connection(listener.getsockname())
green, _ = listener.accept()
green.settimeout(0.2)
told = {"taken": [], "passed": ""}
tap = PortStatsTap(green, hubs.get_hub(), hub, lambda reply: told["taken"].append(reply.transaction))
echo = struct.pack("!BBHI", 4, 2, 12, 9) + b"ping"
stats = [struct.pack("!BBHIHH4x", 4, 19, 16, number, 4, 0) for number in (1, 2)]
stream = stats[0] + echo + stats[1] + echo[:5]
for piece in (stream[:3], stream[3:], echo[5:]):
    switch.sendall(piece)
    eventlet.sleep(0.01)
told["passed"] = (tap.recv(8) + tap.recv(8)).hex()
told["echo"] = echo.hex()
try:
    tap.recv(8)
except TimeoutError:
    told["waits"] = "as long as the socket"
told["asked"] = tap.send_now(request(7))
told["heard"] = switch.recv(100) == request(7)
green.fd.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
flood = eventlet.spawn(tap.sendall, bytes(50_000_000))
eventlet.sleep(0.01)
told["asked_while_sending"] = tap.send_now(request(8))
flood.kill()
switch.close()
told["end"] = tap.recv(8).hex()
tap.close()
told["listeners_left"] = green.fileno() in hubs.get_hub().listeners[hubs.get_hub().READ]
print(json.dumps(told))
"""


@pytest.fixture(params=DRIVERS)
def told(request: pytest.FixtureRequest) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CONNECTION, request.param],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_tap_divides_a_connection_between_telemetry_and_the_framework(told: dict[str, Any]) -> None:
    assert told["taken"] == [1, 2]
    assert told["passed"] == 2 * told["echo"]
    assert told["waits"] == "as long as the socket"
    assert (told["asked"], told["heard"]) == (True, True)
    assert told["asked_while_sending"] is False  # not into the middle of another message
    assert (told["end"], told["listeners_left"]) == ("", False)
