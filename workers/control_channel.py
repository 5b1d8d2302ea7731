"""The control channel of every worker: command line, Unix socket to the driver, JSON lines both ways, exit code.

The driver listens on a Unix socket and the worker connects to it, so control traffic does not use the fabric. When the
driver dies, the worker reads an end of file and exits at once. Exit codes: 0 after `quit`, 1 when
the driver is gone, 2 when the worker could not start.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from workers.command import Command, CommandError
from workers.loop import READABLE, WRITABLE, Loop
from workers.privileges import drop_privileges

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workers.mooncake_engine import MooncakeEngine
    from workers.streams import StreamOptions

EXIT_QUIT = 0
EXIT_DRIVER_GONE = 1
EXIT_CANNOT_START = 2
CONNECT_TIMEOUT_S = 10.0
READ_BYTES = 65_536
LONGEST_LINE_BYTES = 1 << 20
"""Of a command: the addresses of 4,096 peers take a tenth of it."""
LONGEST_ECHO_BYTES = 4096
OUTBOX_MOST_BYTES = 1 << 26
"""Events that the driver has not read: one that leaves so much is as good as gone."""


def stamp(at_s: float) -> float:
    """A monotonic time as it is reported, seconds, rounded to a microsecond (finer than any wake-up here)."""
    return round(at_s, 6)


def argument_parser(role: str, description: str | None) -> argparse.ArgumentParser:
    """The options of every worker. The address is the one it listens on or sends from."""
    parser = argparse.ArgumentParser(prog=f"workers.{role}", description=description)
    parser.add_argument("--name", required=True, help="the instance's name, repeated in the hello event")
    parser.add_argument("--control", required=True, help="path of the driver's Unix socket")
    parser.add_argument("--address", default=None, help="own IPv4 address (listening workers: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="TCP (and UDP) port to listen on; 0: any free one")
    return parser


def add_realtime_argument(parser: argparse.ArgumentParser) -> None:
    """For workers with timers and a low CPU load; one with a high load would starve the switches."""
    parser.add_argument(
        "--realtime-priority",
        type=int,
        default=0,
        help="run under SCHED_RR at this priority (1 to 99), ahead of ordinary processes; needs root (default: off)",
    )


class ControlChannel:
    """A worker's control connection: sends events, executes commands until `quit` or end of file."""

    def __init__(self, role: str, name: str, control_path: str) -> None:
        self.loop = Loop()
        self._role = role
        self._name = name
        self._hello = {"role": role, "name": name}
        self._exit_code = EXIT_QUIT
        self._handlers: Mapping[str, Callable[[Command], None]] = {}
        self._inbox = b""
        self._skipping = False
        self._outbox = bytearray()
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control.settimeout(CONNECT_TIMEOUT_S)
        try:
            self._control.connect(control_path)
        except OSError as error:
            print(f"workers.{role} {name}: no driver at {control_path}: {error}", file=sys.stderr)
            raise SystemExit(EXIT_CANNOT_START) from error

    def listen(self, address: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """A non-blocking socket bound to the address (and listening, for TCP); a taken port ends the worker."""
        sock = socket.socket(socket.AF_INET, kind)
        try:
            if kind is socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            if kind is socket.SOCK_STREAM:
                sock.listen(1024)
        except (OSError, OverflowError) as error:
            self.fatal(f"cannot listen on {address}:{port}: {error}")
        sock.setblocking(False)
        return sock

    def check(self, options: StreamOptions) -> None:
        """End the worker unless streams can be opened with these options."""
        try:
            self._hello["congestion_control"] = options.congestion_control_in_force()
        except OSError as error:
            self.fatal(f"cannot open streams with {options}: {error}")

    def set_realtime_priority(self, realtime_priority: int, threads: bool = False) -> None:
        """Run at a real-time priority unless it is 0 (sched(7)); threads inherit it if that is wanted, else nothing."""
        if realtime_priority:
            try:
                policy = os.SCHED_RR | (0 if threads else os.SCHED_RESET_ON_FORK)
                os.sched_setscheduler(0, policy, os.sched_param(realtime_priority))
            except (OSError, OverflowError) as error:
                self.fatal(f"cannot run at real-time priority {realtime_priority}: {error}")

    def drop_privileges(self, congestion_control: str | None = None) -> None:
        """Go on as nobody, when sockets are open and the priority is set; what the kernel refuses ends the worker."""
        try:
            drop_privileges(congestion_control)
        except OSError as error:
            self.fatal(f"cannot give up privileges: {error}")

    def start_engine(self, arguments: argparse.Namespace, options: StreamOptions, size: int) -> MooncakeEngine:
        """A transfer engine with so much memory, after its package is loaded and privileges are dropped; its threads
        have the worker's priority. What is missing ends the worker."""
        from workers.mooncake_engine import EngineError, MooncakeEngine, load_package

        try:
            package = load_package(arguments.lanes)
            self.set_realtime_priority(arguments.realtime_priority, threads=True)
            self.drop_privileges(options.congestion_control)
            return MooncakeEngine(package, arguments.address or "127.0.0.1", size, options)
        except EngineError as error:
            self.fatal(str(error))

    def fatal(self, error: str) -> NoReturn:
        """Tell the driver why the worker cannot start, and exit with code 2."""
        try:
            self._control.sendall(_line("fatal", {"error": error}))
        except OSError:
            print(f"workers.{self._role} {self._name}: {error}", file=sys.stderr)
        raise SystemExit(EXIT_CANNOT_START)

    def close(self) -> None:
        """Close the connection to the driver; for programs that go on after `run`."""
        self._control.close()
        self.loop.close()

    def emit(self, event: str, **fields: Any) -> None:
        """Queue one event line for the driver; never blocks."""
        was_empty = not self._outbox
        self._outbox += _line(event, fields)
        if was_empty:
            self._flush()
        elif len(self._outbox) > OUTBOX_MOST_BYTES:
            self._end(EXIT_DRIVER_GONE)

    def run(self, port: int | None, handlers: Mapping[str, Callable[[Command], None]]) -> int:
        """Send hello, call `handlers[command.do]` for commands until `quit` or end of file, return the exit code."""
        self._handlers = handlers
        self._control.setblocking(False)
        self.loop.watch(self._control, READABLE, self._on_control)
        self.emit("hello", **self._hello, pid=os.getpid(), port=port)
        self.loop.run()
        if self._exit_code == EXIT_QUIT and self._outbox:
            self._control.settimeout(CONNECT_TIMEOUT_S)
            try:
                self._control.sendall(self._outbox)
            except OSError:
                return EXIT_DRIVER_GONE
        return self._exit_code

    def _on_control(self, events: int) -> None:
        if events & WRITABLE:
            self._flush()
        if not events & ~WRITABLE:
            return
        try:
            received = self._control.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._end(EXIT_DRIVER_GONE)
            return
        *lines, self._inbox = (self._inbox + received).split(b"\n")
        for line in lines:
            if self._skipping:
                self._skipping = False  # the end of a line that was too long
            elif line.strip():
                self._execute(line)
        if self._skipping:
            self._inbox = b""
        elif len(self._inbox) > LONGEST_LINE_BYTES:
            self._inbox, self._skipping = b"", True
            self.emit("error", error=f"a command of more than {LONGEST_LINE_BYTES} bytes: left out", command=None)

    def _execute(self, line: bytes) -> None:
        command = None
        try:
            command = Command(line)
            if command.do == "quit":
                self._end(EXIT_QUIT)
                return
            handler = self._handlers.get(command.do)
            if handler is None:
                raise CommandError(
                    f"{command.do}: a {self._role} worker knows only {', '.join([*self._handlers, 'quit'])}"
                )
            handler(command)
        except CommandError as error:
            echo = command.fields if command and len(line) <= LONGEST_ECHO_BYTES else None
            self.emit("error", error=str(error)[:LONGEST_ECHO_BYTES], command=echo)

    def _flush(self) -> None:
        try:
            sent = self._control.send(self._outbox)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._end(EXIT_DRIVER_GONE)
            return
        del self._outbox[:sent]
        self.loop.rewatch(self._control, READABLE | WRITABLE if self._outbox else READABLE)

    def _end(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self.loop.stop()


def _line(event: str, fields: dict[str, Any]) -> bytes:
    return json.dumps({"event": event, **fields}, separators=(",", ":")).encode() + b"\n"
