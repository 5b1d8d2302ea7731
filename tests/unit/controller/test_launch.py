"""The launcher and the real managers as processes, without any switch."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from controller.driver import DRIVERS
from controller.launch import APPS, LaunchError, check_port
from tests.support.paths import ROOT

pytestmark = pytest.mark.xdist_group("ports")

SCHEMA = json.loads((ROOT / "controller" / "netkv.cost.v1.schema.json").read_text(encoding="utf-8"))
DEADLINE_S = 60.0
LAUNCHER = (sys.executable, "-m", "controller.launch")

RYU_MANAGER = """
import eventlet.wsgi, runpy, sys
eventlet.wsgi.ALREADY_HANDLED = object()
sys.argv = ["ryu-manager", *sys.argv[1:]]
from ryu.cmd.manager import main
main()
"""
OSKEN_MANAGER = "from os_ken.cmd.manager import main; main()"

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def oracle(tmp_path: Path) -> Path:
    return tmp_path / "oracle.sock"


@pytest.fixture
def config(tmp_path: Path, oracle: Path) -> Path:
    path = tmp_path / "controller.json"
    path.write_text(json.dumps({"oracle_socket": str(oracle)}), encoding="utf-8")
    return path


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process and end it with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(command: Sequence[str], **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(oracle: Path, process: subprocess.Popen[str]) -> dict[str, Any]:
    """The first document that the process publishes."""
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE_S)
            if client.connect_ex(str(oracle)) == 0:
                client.sendall(b"\n")
                with client.makefile("rb") as answers:
                    document: dict[str, Any] = json.loads(answers.readline())
                    return document
        time.sleep(0.05)
    raise AssertionError(f"no oracle: {process.communicate(timeout=DEADLINE_S) if process.poll() is not None else ''}")


@pytest.mark.parametrize("driver", DRIVERS)
def test_it_publishes_before_any_switch_and_ends_cleanly(start: Start, config: Path, oracle: Path, driver: str) -> None:
    controller = start([*LAUNCHER, "--config", str(config), "--port", str(free_port()), "--openflow", driver])
    document = ask(oracle, controller)
    jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert (document["switches_programmed"], document["complete"]) == (0, False)
    controller.send_signal(signal.SIGTERM)
    assert controller.communicate(timeout=DEADLINE_S)[1] == ""
    assert (controller.returncode, oracle.exists()) == (0, False)


@pytest.mark.parametrize("driver", DRIVERS)
def test_prometheus_finds_a_page_where_one_is_wanted_and_nothing_when_it_has_ended(
    start: Start, config: Path, oracle: Path, driver: str
) -> None:
    port, page = free_port(), free_port()
    config.write_text(json.dumps({"oracle_socket": str(oracle), "prometheus_port": page}), encoding="utf-8")
    controller = start([*LAUNCHER, "--config", str(config), "--port", str(port), "--openflow", driver])
    ask(oracle, controller)
    with urllib.request.urlopen(f"http://127.0.0.1:{page}/metrics", timeout=DEADLINE_S) as answer:
        families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
    assert {sample.value for sample in families["netkv_switch_programmed"].samples} == {0.0}
    assert len(families["netkv_link_bytes"].samples) == 80
    assert families["netkv_link_utilisation_ratio"].samples == []  # nothing measured, nothing claimed
    controller.send_signal(signal.SIGTERM)
    assert controller.communicate(timeout=DEADLINE_S)[1] == ""
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{page}/metrics", timeout=DEADLINE_S)


def test_a_page_on_the_port_of_openflow_is_one_line_and_exit_code_2(start: Start, config: Path) -> None:
    port = free_port()
    config.write_text(json.dumps({"prometheus_port": port}), encoding="utf-8")
    controller = start([*LAUNCHER, "--config", str(config), "--port", str(port)])
    assert (
        controller.communicate(timeout=DEADLINE_S)[1]
        == f"controller: prometheus_port: {port} is the OpenFlow port; choose another\n"
    )
    assert controller.returncode == 2


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_in_the_middle_of_an_answer(
    start: Start, config: Path, oracle: Path, driver: str, ending: signal.Signals
) -> None:
    controller = start([*LAUNCHER, "--config", str(config), "--port", str(free_port()), "--openflow", driver])
    ask(oracle, controller)
    threading.Thread(target=keep_asking, args=(oracle,), daemon=True).start()
    time.sleep(0.2)  # the signal should meet a green thread at work, not an idle event loop
    controller.send_signal(ending)
    assert controller.wait(DEADLINE_S) == 0
    assert not oracle.exists()


def keep_asking(oracle: Path) -> None:
    """Ask without a pause until the controller has gone."""
    with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
        client.settimeout(DEADLINE_S)
        client.connect(str(oracle))
        while True:
            client.sendall(b"\n" * 64)
            if not client.recv(1 << 20):
                return


def test_a_taken_port_is_one_line_and_exit_code_2(start: Start, config: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as eventlet's listeners have
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LaunchError, match="is in use"):
            check_port(port)
        controller = start([*LAUNCHER, "--config", str(config), "--port", str(port)])
        said = controller.communicate(timeout=DEADLINE_S)[1]
    assert said == f"controller: port {port} on 127.0.0.1 is in use (Address already in use)\n"
    assert controller.returncode == 2


def test_switches_of_other_machines_are_served_on_the_address_that_is_named(start: Start, config: Path) -> None:
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = str(taken.getsockname()[1])
        controller = start([*LAUNCHER, "--config", str(config), "--port", port, "--address", "127.0.0.2"])
        assert controller.communicate(timeout=DEADLINE_S)[1].startswith(
            f"controller: port {port} on 127.0.0.2 is in use"
        )


@pytest.mark.parametrize(
    ("content", "environment", "complaint"),
    [
        ('{"poll_s": 0}', {}, "poll_s: 0 is not between 0.01 and 60"),
        ("{", {}, "Expecting property name"),
        ("{}", {"NETKV_OPENFLOW": "pox"}, "NETKV_OPENFLOW: 'pox' is not one of ryu, os_ken"),
        ('{"oracle_socket": "/dev/null/oracle.sock"}', {}, "oracle socket /dev/null/oracle.sock: "),
    ],
)
def test_what_cannot_start_is_one_line_and_exit_code_2(
    start: Start, config: Path, content: str, environment: dict[str, str], complaint: str
) -> None:
    config.write_text(content, encoding="utf-8")
    controller = start([*LAUNCHER, "--config", str(config), "--port", str(free_port())], **environment)
    said = controller.communicate(timeout=DEADLINE_S)[1]
    assert said.startswith("controller: ")
    assert complaint in said
    assert said.count("\n") == 1
    assert controller.returncode == 2


@pytest.mark.parametrize("script", [RYU_MANAGER, OSKEN_MANAGER], ids=["ryu-manager", "osken-manager"])
@pytest.mark.parametrize(
    "apps", [APPS, ("controller/forwarding.py", "controller/telemetry.py")], ids=["modules", "files"]
)
def test_the_apps_load_in_the_plain_managers(
    start: Start, config: Path, oracle: Path, script: str, apps: tuple[str, ...]
) -> None:
    manager = start(
        [sys.executable, "-c", script, "--ofp-tcp-listen-port", str(free_port()), *apps],
        NETKV_CONTROLLER_CONFIG=str(config),
    )
    assert ask(oracle, manager)["switches_expected"] == 20
