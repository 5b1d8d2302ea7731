"""Reading `netkv.cost/v1` documents from the controller's Unix socket."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from controller import check_document

ORACLE_DEADLINE_S = 0.5
LONGEST_DOCUMENT_BYTES = 1 << 24
"""A link takes some 80 bytes: 16 MiB describe 200,000 of them."""


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
            if self._rest:
                raise OSError("more than was asked for came: one document for each line feed was expected")
            self._socket.settimeout(deadline_s)
            self._socket.sendall(b"\n")
            document = _decoded(self._read_line(time.monotonic() + deadline_s))
            if not self._checked:
                check_document(document)
                self._checked = True
        except (OSError, ValueError) as problem:  # SchemaError is a ValueError
            self.close()
            raise OracleUnavailableError(f"{self._path}: {problem}") from None
        except RecursionError:
            self.close()
            raise OracleUnavailableError(f"{self._path}: not JSON that can be read: nested too deep") from None
        return document

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _read_line(self, until_s: float) -> bytes:
        """The next line, whole, by a time on the monotonic clock, however slowly it comes."""
        assert self._socket is not None
        chunks, count = [], 0
        while True:
            self._socket.settimeout(max(until_s - time.monotonic(), 1e-3))
            chunk = self._socket.recv(1 << 16)
            if not chunk:
                raise OSError("the controller closed the connection")
            chunks.append(chunk)
            count += len(chunk)
            if b"\n" in chunk:
                line, _, self._rest = b"".join(chunks).partition(b"\n")
                return line
            if count > LONGEST_DOCUMENT_BYTES:
                raise OSError(f"a document of more than {LONGEST_DOCUMENT_BYTES >> 20} MiB: one line was expected")
            if time.monotonic() > until_s:
                raise OSError("timed out: only a part of a document came")


def _decoded(line: bytes) -> dict[str, Any]:
    """The object that a line of strict JSON holds. ValueError for anything else, such as a name that is there twice."""
    document = json.loads(line, parse_constant=_refuse_constant, object_pairs_hook=_without_doubles)
    if not isinstance(document, dict):
        raise ValueError(f"an object was expected, not {type(document).__name__}")
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice in one object")
    return found
