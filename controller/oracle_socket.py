"""The Unix socket that answers every request line with the latest cost document.

The protocol: a client connects, writes any line, reads one line of JSON; the connection stays open for more. The
content of the document is defined in `cost_document`; `telemetry` updates it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from typing import Any

BACKLOG = 64
LONGEST_READ_B = 4096
ANSWER_DEADLINE_S = 5.0
"""A client that does not read its answer for so long is disconnected."""


class OracleSocketError(RuntimeError):
    """The socket cannot be opened; the message holds its path and the reason."""


class OracleSocket:
    """Serves the result of `latest()` at `path`. `spawn(function, *args)` starts a thread of the caller's kind."""

    def __init__(self, path: str, spawn: Callable[..., Any], latest: Callable[[], bytes]) -> None:
        self._latest = latest
        self._path = path
        self._spawn = spawn
        self._listener = _listen(path)

    def serve(self) -> None:
        """Accept clients until `close`."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            self._spawn(self._answer, client)

    def close(self) -> None:
        """Stop serving and remove the socket's path."""
        self._listener.close()
        if os.path.exists(self._path):
            os.unlink(self._path)

    def _answer(self, client: socket.socket) -> None:
        """Send one document for every line feed; the rest of a line is ignored."""
        with client:
            try:
                while asked := client.recv(LONGEST_READ_B):
                    client.settimeout(ANSWER_DEADLINE_S)
                    for _ in range(asked.count(b"\n")):
                        client.sendall(self._latest())
                    client.settimeout(None)  # the next request may come at any time
            except OSError:
                return  # the client has left or does not read


def _listen(path: str) -> socket.socket:
    """Bind to `path`. Replaces the socket of a killed controller, never one that is still served."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        if _is_abandoned(path):
            os.unlink(path)
        listener.bind(path)
        os.chmod(path, 0o600)  # before anybody can connect: that takes a listener
        listener.listen(BACKLOG)
    except OSError as problem:
        listener.close()
        raise OracleSocketError(f"oracle socket {path}: {problem.strerror}") from problem
    return listener


def _is_abandoned(path: str) -> bool:
    """Whether `path` is a socket without a listener. (A connection to an ordinary file is also refused.)"""
    if not os.path.exists(path) or not stat.S_ISSOCK(os.stat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(path) == errno.ECONNREFUSED
