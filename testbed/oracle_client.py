"""Reading `netkv.cost/v1` documents from the controller's Unix socket."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from controller import check_document

ORACLE_DEADLINE_S = 0.5


class OracleUnavailableError(RuntimeError):
    """Nothing could be read from the oracle's socket; the message says why."""


class OracleClient:
    """One connection, opened when first needed and again after a failure.

    The first document of a connection is checked against its JSON schema, which takes fifty times as long as reading
    it. Of later documents only the values that a scheduler uses are checked (`scheduler.oracle.parse_document`).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._rest = b""
        self._checked = False

    def connect(self) -> None:
        """Read and check one document now, so that the first `fetch` is as fast as all others. Never fails."""
        with suppress(OracleUnavailableError):
            self.fetch()

    def fetch(self, deadline_s: float = ORACLE_DEADLINE_S) -> dict[str, Any]:
        """Ask for the latest document. OracleUnavailableError when none arrives in time or it is invalid."""
        try:
            if self._socket is None:
                self._rest, self._checked = b"", False
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(deadline_s)
                self._socket.connect(str(self._path))
            self._socket.settimeout(deadline_s)
            self._socket.sendall(b"\n")
            line = self._read_line()
            document: dict[str, Any] = json.loads(line)
            if not self._checked:
                check_document(document)
                self._checked = True
        except (OSError, ValueError) as problem:  # SchemaError is a ValueError
            self.close()
            raise OracleUnavailableError(f"{self._path}: {problem}") from None
        return document

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _read_line(self) -> bytes:
        assert self._socket is not None
        while b"\n" not in self._rest:
            chunk = self._socket.recv(1 << 16)
            if not chunk:
                raise OSError("the controller closed the connection")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line
