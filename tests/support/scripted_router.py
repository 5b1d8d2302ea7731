"""A server whose every byte a test decides: what a router behind HTTP may answer, and what it should not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEADLINE_S = 20.0
Answer = Callable[[dict[str, Any]], bytes | Iterator[bytes]]
"""The bytes that answer a document, or pieces of them; after no bytes the connection is closed."""


def reply(body: bytes | str | dict[str, Any], status: str = "200 OK", *headers: str) -> bytes:
    """A whole HTTP answer; a dict as JSON."""
    if isinstance(body, dict):
        body = json.dumps(body)
    content = body.encode() if isinstance(body, str) else body
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


@dataclass
class ScriptedRouter:
    """What was asked: the documents (None: not JSON), request lines with headers, and how many connections came.

    `stopped` is set when the test is over: an answer that waits, waits for it.
    """

    url: str
    documents: list[Any] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    connections: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)


@contextmanager
def scripted_router(answer: Answer, socket_path: Path | None = None) -> Iterator[ScriptedRouter]:
    """Serve on a loopback port, or a Unix socket, until the context ends."""
    if socket_path is None:
        listener = socket.create_server(("127.0.0.1", 0))
        router = ScriptedRouter(f"http://127.0.0.1:{listener.getsockname()[1]}/select")
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(socket_path))
        listener.listen()
        router = ScriptedRouter(f"http+unix:{socket_path}:/select")
    accepting = threading.Thread(target=_accept, args=(listener, router, answer))
    accepting.start()
    try:
        yield router
    finally:
        router.stopped.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(DEADLINE_S)


def _accept(listener: socket.socket, router: ScriptedRouter, answer: Answer) -> None:
    threads: list[threading.Thread] = []
    opened: list[socket.socket] = []
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            router.connections += 1
            opened.append(connection)
            threads.append(threading.Thread(target=_serve, args=(connection, router, answer)))
            threads[-1].start()
    for connection in opened:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(DEADLINE_S)


def _serve(connection: socket.socket, router: ScriptedRouter, answer: Answer) -> None:
    with connection, connection.makefile("rb") as reader, suppress(OSError):
        while head := _head(reader):
            router.heads.append(head)
            length = next(line for line in head.splitlines() if line.lower().startswith("content-length"))
            body = reader.read(int(length.partition(":")[2]))
            try:
                document = json.loads(body)
            except ValueError:
                document = None
            router.documents.append(document)
            answered = answer(document)
            if not answered:
                return
            for piece in [answered] if isinstance(answered, bytes) else answered:
                connection.sendall(piece)


def _head(reader: Any) -> str:
    lines = iter(reader.readline, b"\r\n")
    found = []
    for line in lines:
        if not line:
            return ""
        found.append(line.decode())
    return "".join(found)
