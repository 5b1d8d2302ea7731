"""The worker processes of one run: started in their hosts' namespaces, controlled over one Unix socket."""

from __future__ import annotations

import asyncio
import json
import reprlib
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scenario import Scenario, ServingSpec
from testbed.child_python import child_python
from testbed.errors import TestbedError
from testbed.fabric_up import FabricUp
from testbed.sandbox import RUN_DIR
from testbed.scheduling_priority import REALTIME_PRIORITY
from topologies import Roles, fair_queue_count

DECODE_PORT = 7001
BACKGROUND_PORT = 7002

KV_SHARE_OF_QUEUES = 3 / 4
"""Of the queues of a fair port: those of KV transfers; the others are the background traffic's."""
HELLO_DEADLINE_S = 30.0
BACKLOG = 4096
"""Pending connections of the control socket: all workers may connect before the first is accepted."""

LONGEST_EVENT_BYTES = 1 << 24
"""Of a worker: the times of 800,000 tokens."""

MOST_OPENED_BEFORE = 1024
"""Most persistent connections that are opened before the first request. Every switch on a path has cached flows of each
and has to revalidate them: with 4,096 between 64 hosts vswitchd was so slow that ARP failed. Beyond this number a
persistent connection is opened when it is first needed."""

CONNECT_DEADLINE_S = 60.0
QUIT_DEADLINE_S = 5.0

REAL_TIME = ("--realtime-priority", str(REALTIME_PRIORITY))

NOT_THE_PROTOCOL = (TestbedError, ValueError, LookupError, TypeError)
"""What reading an event raises that no worker of ours sends; ValueError: a line beyond the limit."""

Event = dict[str, Any]
Tell = Callable[[str, int, dict[str, Any]], None]
"""Send a command to the worker of a role on an instance: `WorkerPool.tell`."""


def kv_and_all_queues(hosts: int) -> tuple[int, int]:
    """Of the queues of a fair port in a fabric of so many hosts: those of KV transfers, and all."""
    queues = fair_queue_count(hosts)
    return round(KV_SHARE_OF_QUEUES * queues), queues


def control_socket(path: Path) -> socket.socket:
    """A socket at a path for its owner alone."""
    control = socket.socket(socket.AF_UNIX)
    control.bind(str(path))
    path.chmod(0o600)  # before anybody can connect: that takes a listener
    return control


def read_event(line: bytes) -> Event:
    """The event that a line of a worker holds. TestbedError when it is none."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise TestbedError(f"not an event: {reprlib.repr(line)}: a JSON object with a string `event` was expected")
    return event


def connects_before_first_request(roles: Roles, serving: ServingSpec) -> bool:
    """Whether every prefill worker connects with every decode worker before the first request."""
    connections = len(roles.prefill) * len(roles.decode) * serving.stripes
    return serving.connections == "persistent" and 0 < connections <= MOST_OPENED_BEFORE


def engine_arguments(serving: ServingSpec) -> tuple[str, ...]:
    """What both ends of a transfer are told of the engine that moves it."""
    return ("--engine", serving.engine, "--lanes", str(serving.stripes))


class WorkerPool:
    """A prefill or decode worker on every instance by its role, and a background worker on those in `background`.

    `on_event(role, instance, event)` is called for every event after a worker's hello, `on_lost(role, instance, line)`
    when a worker has ended by itself, `on_restarted(role, instance)` when one that was started anew says hello. An
    asynchronous context manager; TestbedError when a worker does not start.
    """

    def __init__(
        self,
        up: FabricUp,
        roles: Roles,
        background: tuple[int, ...],
        scenario: Scenario,
        on_event: Callable[[str, int, Event], None],
        on_lost: Callable[[str, int, str], None] = lambda role, instance, line: None,
        on_restarted: Callable[[str, int], None] = lambda role, instance: None,
    ) -> None:
        self._up = up
        self._roles = roles
        self._serving = scenario.serving
        self._wanted = {
            **{("prefill", instance): self._prefill_arguments(instance, scenario) for instance in roles.prefill},
            **{("decode", instance): self._decode_arguments(instance, scenario) for instance in roles.decode},
            **{("background", instance): self._background_arguments(instance, scenario) for instance in background},
        }
        self._on_event = on_event
        self._on_lost = on_lost
        self._on_restarted = on_restarted
        self._quitting = False
        self._processes: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
        self._writers: dict[tuple[str, int], asyncio.StreamWriter] = {}
        self._ready = asyncio.Event()
        self._connecting: set[int] = set()
        self._connected = asyncio.Event()
        self._fatal = ""
        self._control = RUN_DIR / "control.sock"
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> WorkerPool:
        self._control.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._serve, sock=control_socket(self._control), limit=LONGEST_EVENT_BYTES, backlog=BACKLOG
        )
        for role, instance in self._wanted:
            self.start(role, instance)
        try:
            await asyncio.wait_for(self._ready.wait(), HELLO_DEADLINE_S)
        except TimeoutError:
            missing = sorted(set(self._wanted) - set(self._writers))
            role, instance = missing[0]
            lines = self._log(role, instance).read_text(errors="replace").strip().splitlines()
            raise TestbedError(
                f"{len(missing)} workers did not start within {HELLO_DEADLINE_S:g} s; first {role} on"
                f" {self._name(instance)}: {lines[-1] if lines else 'no message'}"
            ) from None
        if self._fatal:
            raise TestbedError(self._fatal)
        if connects_before_first_request(self._roles, self._serving):
            await self._connect()
        return self

    async def _connect(self) -> None:
        """Connect every prefill worker with every decode worker, as engines do when they start."""
        self._connecting = set(self._roles.prefill)
        for source in self._roles.prefill:
            peers = [[self._up.address(target), DECODE_PORT] for target in self._roles.decode if target != source]
            self.tell("prefill", source, {"do": "connect", "addresses": peers, "stripes": self._serving.stripes})
        try:
            await asyncio.wait_for(self._connected.wait(), CONNECT_DEADLINE_S)
        except TimeoutError:
            raise TestbedError(
                f"{len(self._connecting)} prefill workers had no connection to every decode worker within"
                f" {CONNECT_DEADLINE_S:g} s"
            ) from None
        if self._fatal:
            raise TestbedError(self._fatal)

    def _on_connected(self, instance: int, event: Event) -> None:
        self._connecting.discard(instance)
        if event["event"] == "connect_failed":
            self._end_start(f"the prefill worker on {self._name(instance)}: {event['error']}")
        elif not self._connecting:
            self._connected.set()

    async def __aexit__(self, *_: object) -> None:
        """Tell every worker to quit and kill those that do not. Returns when none is left."""
        self._quitting = True
        for role, instance in list(self._writers):
            self.tell(role, instance, {"do": "quit"})
        deadline = asyncio.get_running_loop().time() + QUIT_DEADLINE_S
        while any(process.poll() is None for process in self._processes.values()):
            if asyncio.get_running_loop().time() > deadline:
                for process in self._processes.values():
                    process.kill()
            await asyncio.sleep(0.01)
        for writer in self._writers.values():
            writer.close()
        if self._server is not None:
            self._server.close()

    def tell(self, role: str, instance: int, command: dict[str, Any]) -> None:
        """Send one command line; a worker that has ended gets none."""
        if (writer := self._writers.get((role, instance))) is not None:
            writer.write(json.dumps(command).encode() + b"\n")

    def start(self, role: str, instance: int) -> None:
        """Start a worker's process, at first or anew; `on_restarted` follows, the second time."""
        if (former := self._processes.get((role, instance))) is not None:
            former.wait()
        self._processes[role, instance] = self._up.spawn(
            instance,
            *child_python(
                *(f"workers.{role}", "--name", self._name(instance), "--control", str(self._control)),
                *self._wanted[role, instance],
                bare=role == "background" or self._serving.engine == "sockets",
            ),
            log=self._log(role, instance),
        )

    def kill(self, role: str, instance: int) -> None:
        """End a worker's process as a crash does (SIGKILL); what it has said and nobody has read yet is lost."""
        if (writer := self._writers.pop((role, instance), None)) is not None:
            writer.close()
        self._processes[role, instance].kill()

    def pause(self, instance: int, stopped: bool) -> None:
        """Stop the process that serves on an instance, or let it go on."""
        for (role, number), process in self._processes.items():
            if number == instance and role != "background" and process.poll() is None:
                process.send_signal(signal.SIGSTOP if stopped else signal.SIGCONT)

    async def revive(self) -> None:
        """Start every worker that has ended, and return when all are there. TestbedError when one does not start."""
        for key, process in self._processes.items():
            if key not in self._writers and process.poll() is not None:
                self.start(*key)
        until_s = asyncio.get_running_loop().time() + HELLO_DEADLINE_S
        while missing := self._wanted.keys() - self._writers.keys():
            if asyncio.get_running_loop().time() > until_s:
                role, instance = min(missing)
                raise TestbedError(f"the {role} worker on {self._name(instance)} did not start again")
            await asyncio.sleep(0.01)

    def dead(self) -> str:
        """One line about a worker that has ended by itself or broken the protocol; empty while all run."""
        if self._fatal:
            return self._fatal
        for (role, instance), process in self._processes.items():
            if process.poll() is not None:
                return f"the {role} worker on {self._name(instance)} ended with exit code {process.returncode}"
        return ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand the events of one worker on. One that says what none says is killed: it is as good as ended."""
        try:
            hello = read_event(await reader.readline() or b"{}")
            if hello["event"] != "hello":
                raise TestbedError(f"{hello.get('error', hello)}")
            role, instance = hello["role"], int(hello["name"][1:])
        except NOT_THE_PROTOCOL as problem:
            self._end_start(f"a worker could not start: {problem}")
            return
        self._writers[role, instance] = writer
        if self._ready.is_set():
            self._on_restarted(role, instance)
        elif len(self._writers) == len(self._wanted):
            self._ready.set()
        ended = "ended by itself"
        try:
            await self._listen(role, instance, reader, writer)
        except NOT_THE_PROTOCOL as problem:
            ended = f"does not keep to the protocol: {problem}"
            self._processes[role, instance].kill()
        if self._writers.get((role, instance)) is writer and not self._quitting:
            del self._writers[role, instance]
            line = f"the {role} worker on {self._name(instance)} {ended}"
            self._end_start(line)
            self._on_lost(role, instance, line)

    def _end_start(self, problem: str) -> None:
        """Who waits until all workers are there and connected waits no longer: it learns of the first problem."""
        self._fatal = self._fatal or problem
        self._ready.set()
        self._connected.set()

    async def _listen(
        self, role: str, instance: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Hand events on until the worker ends, or was killed here."""
        while line := await _next_line(reader):
            if self._writers.get((role, instance)) is not writer:
                return
            event = read_event(line)
            if event["event"] in ("connected", "connect_failed"):
                self._on_connected(instance, event)
            else:
                self._on_event(role, instance, event)

    def _name(self, instance: int) -> str:
        return self._up.fabric.instances[instance].name

    def _log(self, role: str, instance: int) -> Path:
        return RUN_DIR / f"{role}-{self._name(instance)}.log"

    def _stream_arguments(self, instance: int, seed: int) -> tuple[str, ...]:
        return (
            *("--address", self._up.address(instance), "--port-seed", str(seed)),
            *("--congestion-control", self._up.spec.congestion_control),
        )

    def _prefill_arguments(self, instance: int, scenario: Scenario) -> tuple[str, ...]:
        persistent = ("--persistent-connections",) if scenario.serving.connections == "persistent" else ()
        line_bps = self._up.fabric.spec.nic_rate_bps / self._up.link_divisor
        pace = ("--pace-bps", repr(line_bps)) if self._up.spec.paced else ()
        stream = self._stream_arguments(instance, scenario.seed)
        if self._up.spec.queue == "fair":
            kv, queues = kv_and_all_queues(len(self._up.fabric.instances))
            ends = (self._roles.prefill, self._roles.decode)
            sources, targets = (",".join(self._up.address(one) for one in end) for end in ends)
            stream += ("--fair-queues", f"0:{kv}:{queues}:{sources}:{targets}")
        return (*stream, *persistent, *pace, *engine_arguments(scenario.serving), *REAL_TIME)

    def _decode_arguments(self, instance: int, scenario: Scenario) -> tuple[str, ...]:
        steps = ",".join(f"{batch}:{step_s!r}" for batch, step_s in scenario.model.step_table_s)
        return (
            *("--address", self._up.address(instance), "--port", str(DECODE_PORT)),
            *("--step-table", steps, "--time-dilation", repr(self._up.spec.time_dilation)),
            *("--batch-slots", str(scenario.serving.batch_slots)),
            *("--kv-memory-tokens", str(scenario.serving.kv_memory_tokens)),
            *("--zones", str(len(self._roles.prefill))),
            *engine_arguments(scenario.serving),
            *REAL_TIME,
        )

    def _background_arguments(self, instance: int, scenario: Scenario) -> tuple[str, ...]:
        stream = self._stream_arguments(instance, scenario.seed)
        if self._up.spec.queue == "fair":
            kv, queues = kv_and_all_queues(len(self._up.fabric.instances))
            stream += ("--fair-queues", f"{kv}:{queues - kv}:{queues}")
        return (*stream, "--port", str(BACKGROUND_PORT))


async def _next_line(reader: asyncio.StreamReader) -> bytes:
    """A line; empty at the end, also where that is a reset, as of a process that was killed."""
    try:
        return await reader.readline()
    except OSError:
        return b""
