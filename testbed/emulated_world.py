"""The emulated world, controlled from outside the sandbox: open it once, run scenarios in it, close it.

Owns the host's side of a run: the check for root, the send-buffer lease, the sandbox's process and a deadline for every
answer from it.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from scenario import Scenario
from scheduler import HttpRouter, is_router_url, parse_router_url
from serving import Outcome, RequestRecord, RunLook, Watch, offered_and_measured
from testbed.capture import CaptureOrder
from testbed.emulation import EmulationSpec
from testbed.errors import BrokenRunError, TestbedError
from testbed.host_network import OWN_NETWORK
from testbed.replay_probe import transfer_time_error
from testbed.sandbox import python_in_sandbox, require_sandbox
from testbed.send_buffer import SendBufferError, SendBufferLease
from testbed.transfer_engine import check_engine

SILENCE_DEADLINE_S = 90.0
"""Longest wait for the next line from the sandbox: building 64 hosts takes about half of it."""

Say = Callable[[str], None]
Progress = Callable[[int], None]
OnLook = Callable[[dict[str, Any]], None]


class EmulatedWorld:
    """A fabric of one specification that is up while the context lasts.

    `run(scenario)` runs a scenario of the same fabric, with captures if `capture` lists links. TestbedError when
    something is missing, refused or late, of these BrokenRunError when something broke that was there, the
    sandbox for one, PolicyError when the policy is a router that cannot be reached.
    """

    def __init__(
        self,
        scenario: Scenario,
        emulation: EmulationSpec,
        say: Say = lambda _: None,
        capture: CaptureOrder | None = None,
    ) -> None:
        self._scenario = scenario
        self._emulation = emulation
        self._capture = capture or CaptureOrder((), "")
        self._say = say
        self._lease = SendBufferLease()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = os.fdopen(os.memfd_create("sandbox.log"), "w+b")  # lives as long as the sandbox
        self._rest = b""
        self.evidence: dict[str, Any] = {}

    def __enter__(self) -> EmulatedWorld:
        check_engine(self._scenario.serving)
        require_sandbox()
        if is_router_url(self._scenario.policy):
            HttpRouter(parse_router_url(self._scenario.policy)).close()  # or no fabric is brought up
        try:
            self._lease.__enter__()
        except SendBufferError as problem:
            raise TestbedError(str(problem)) from None
        try:
            self._open()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _open(self) -> None:
        with open(OWN_NETWORK) as host_network:
            self._process = subprocess.Popen(
                python_in_sandbox("testbed.sandbox_main"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                start_new_session=True,
                pass_fds=(host_network.fileno(),),
            )
            number = host_network.fileno()
        self._write(
            {
                "scenario": self._scenario.model_dump(mode="json"),
                "emulation": self._emulation.model_dump(mode="json"),
                "capture": self._capture._asdict(),
                "host_network": number,
            }
        )
        started_s = time.monotonic()
        self.evidence = self._await("up")
        self.evidence["bringup_s"] = round(time.monotonic() - started_s, 2)

    def run(self, scenario: Scenario, progress: Progress = lambda _: None, watch: Watch | None = None) -> Outcome:
        """Run a scenario and return its outcome. BrokenRunError when the sandbox ends, or says nothing any more."""
        check_engine(scenario.serving)
        every_s, on_look = (None, lambda _: None) if watch is None else (watch.every_s, watch.on_look)
        self._write({"run": scenario.model_dump(mode="json"), "look_every_s": every_s})
        try:
            fields = self._await("outcome", progress, on_look=lambda look: on_look(RunLook.from_json(look)))
        except TestbedError as problem:
            raise BrokenRunError(str(problem)) from None
        requests = [RequestRecord(**row) for row in fields.pop("requests")]
        outcome = Outcome(requests=requests, **fields)
        outcome.evidence |= self.evidence
        outcome.evidence["congestion"] = offered_and_measured(scenario, outcome)
        outcome.evidence["transfer_time_error"] = transfer_time_error(scenario, outcome)
        return outcome

    def watch(self, scenario: Scenario, seconds: float, on_look: OnLook) -> None:
        """Run a scenario's background traffic; `on_look` gets a look of `testbed.telemetry_watch` once a second."""
        self._write({"watch": scenario.model_dump(mode="json"), "seconds": seconds})
        self._await("watched", on_look=on_look)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()  # the kernel ends everything inside with it
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None
        self._log.close()
        self._lease.__exit__(kind, problem, trace)

    def _write(self, message: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BrokenRunError(self._last_log_line()) from None

    def _await(self, wanted: str, progress: Progress = lambda _: None, on_look: OnLook = lambda _: None) -> Any:
        while True:
            message = json.loads(self._next_line())
            if "error" in message:
                raise (BrokenRunError if message.get("broken") else TestbedError)(message["error"])
            if wanted in message:
                return message[wanted]
            if "say" in message:
                self._say(message["say"])
            elif "done" in message:
                progress(message["done"])
            elif "look" in message:
                on_look(message["look"])

    def _next_line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._process.stdout, selectors.EVENT_READ)
            parts, chunk = [], self._rest  # the outcome of an hour is a line of 100 MB: each byte is looked at once
            while b"\n" not in chunk:
                parts.append(chunk)
                deadline_s = max(SILENCE_DEADLINE_S, self._emulation.bringup_deadline_s)
                if not waiting.select(deadline_s):
                    raise BrokenRunError(silence(deadline_s, self._log_lines()))
                chunk = self._process.stdout.read1(1 << 20)  # type: ignore[attr-defined]
                if not chunk:
                    raise BrokenRunError(self._last_log_line())
        last, _, self._rest = chunk.partition(b"\n")
        return b"".join((*parts, last))

    def _log_lines(self) -> list[str]:
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip().splitlines()

    def _last_log_line(self) -> str:
        lines = self._log_lines()
        return f"the sandbox ended early: {lines[-1] if lines else 'it left no message'}"


def silence(deadline_s: float, log_lines: list[str]) -> str:
    """What is known of a sandbox that says nothing: its last line, and whether the machine is too busy for it."""
    last = f"; its last message: {log_lines[-1]}" if log_lines else ""
    load, cpus = os.getloadavg()[0], os.cpu_count() or 1
    busy = f"; {load:.0f} processes want {cpus} processors: run it when the machine is idle" if load > 2 * cpus else ""
    return f"the sandbox did not answer for {deadline_s:g} s{last}{busy}"
