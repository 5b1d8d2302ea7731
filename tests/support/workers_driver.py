"""A tiny driver for tests: starts real workers on loopback and talks to them over their control sockets."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from testbed.child_python import child_python

PATIENCE_S = 60.0
Event = dict[str, Any]


class Worker:
    """One worker process, from hello to exit; `command` prefixes its command line (a network namespace, say)."""

    def __init__(
        self, directory: Path, role: str, name: str, *options: str, command: tuple[str, ...] = (), bare: bool = True
    ) -> None:
        """bare: as in a run with our own sockets, which shows that the standard library is enough."""
        path = directory / f"{name}.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen()
            listener.settimeout(PATIENCE_S)
            python = child_python(f"workers.{role}", "--name", name, "--control", str(path), *options, bare=bare)
            self.process = subprocess.Popen([*command, *python], stderr=subprocess.PIPE)
            self.control, _ = listener.accept()
        path.unlink()
        self.events: list[Event] = []
        self._rest = b""
        self.first = self.wait_for()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.first["port"]

    def tell(self, do: str, **fields: Any) -> None:
        self.control.sendall(json.dumps({"do": do, **fields}).encode() + b"\n")

    def wait_for(self, event: str | None = None, **fields: Any) -> Event:
        """The first event, past or to come, that was not yet waited for and has this name and these fields."""
        wanted = fields if event is None else {"event": event, **fields}
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            for position, candidate in enumerate(self.events):
                if wanted.items() <= candidate.items():
                    return self.events.pop(position)
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([self.control], [], [], left_s)[0]:
                raise TimeoutError(f"no {wanted}, only {self.events}")
            data = self.control.recv(1 << 20)
            if not data:
                raise EOFError(f"worker gone before {wanted}, after {self.events}")
            *lines, self._rest = (self._rest + data).split(b"\n")
            self.events += [json.loads(line) for line in lines]

    def quit(self) -> int:
        self.tell("quit")
        return self.process.wait(PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.control.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
