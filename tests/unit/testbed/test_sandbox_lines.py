"""The lines between a sandbox and its host: long ones, and long work that must not look like silence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from scenario import Scenario
from testbed import BrokenRunError, EmulatedWorld, EmulationSpec, TestbedError, emulated_world, sandbox_main


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A `HostChannel` on a pipe, and the end of it that the host reads."""
    reading, writing = os.pipe()
    kept = os.dup(1)
    os.dup2(writing, 1)
    monkeypatch.setattr(sandbox_main.HostChannel, "_read", lambda self: None)
    try:
        yield sandbox_main.HostChannel(), reading
    finally:
        os.dup2(kept, 1)
        for number in (kept, reading, writing):
            os.close(number)


def test_long_work_says_that_it_lives_and_only_so_long(channel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_main, "ALIVE_S", 0.02)
    monkeypatch.setattr(sandbox_main, "LONGEST_WORK_S", 0.1)
    host, reading = channel
    with host.at_work():
        time.sleep(0.5)
        host.send(outcome=1)
    lines = [json.loads(line) for line in os.read(reading, 1 << 16).splitlines()]
    assert lines == [{"alive": True}] * 5 + [{"outcome": 1}]


def reading(script: str, monkeypatch: pytest.MonkeyPatch, silence_s: float) -> Any:
    """What a world reads from a process in its sandbox's place."""
    monkeypatch.setattr(emulated_world, "SILENCE_DEADLINE_S", silence_s)
    world = EmulatedWorld(Scenario(), EmulationSpec(bringup_deadline_s=silence_s))
    world._process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        return world._await("outcome")
    finally:
        world._process.kill()
        world._process.communicate()


SLOW = """
import json, time
for _ in range(10):
    print(json.dumps({"alive": True}), flush=True)
    time.sleep(0.5)
print(json.dumps({"outcome": 7}), flush=True)
time.sleep(30)
"""


def test_a_sandbox_that_says_that_it_lives_is_waited_for_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reading(SLOW, monkeypatch, silence_s=4.0) == 7
    with pytest.raises(BrokenRunError, match=r"did not answer for 1 s"):
        reading("import time; time.sleep(60)", monkeypatch, silence_s=1.0)


@pytest.mark.parametrize(
    ("script", "error", "said"),
    [
        ('print(\'{"error": "no such core"}\')', TestbedError, "no such core"),
        ('print(\'{"error": "tc failed", "broken": true}\')', BrokenRunError, "tc failed"),
        ("", BrokenRunError, "the sandbox ended early"),
    ],
)
def test_what_broke_is_told_from_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, script: str, error: type[TestbedError], said: str
) -> None:
    """They are different exit codes."""
    with pytest.raises(TestbedError, match=said) as caught:
        reading(script, monkeypatch, silence_s=10.0)
    assert type(caught.value) is error


def test_each_byte_of_a_long_line_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import json; print(json.dumps({'outcome': 'x' * 80_000_000})); print('{}')"
    began_s = time.process_time()
    assert len(reading(script, monkeypatch, 60.0)) == 80_000_000
    assert time.process_time() - began_s < 10  # it takes 1; where each part that arrives is joined to all before, 40
