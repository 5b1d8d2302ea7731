"""HTTP for the ALTO resources, on the loopback: Tornado reads and writes, this module bounds it.

No request, connection or stream is without a limit in bytes and in time, and a snapshot is read in a thread, so that a
source that does not answer holds nobody up.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import logging
import secrets
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tornado import netutil, web
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, StreamClosedError

from controller.alto import alto_types as media
from controller.alto.alto_query import AltoError, parse_body
from controller.alto.alto_resources import AltoResources
from controller.alto.alto_types import AltoRequest, NoSnapshotError
from controller.alto.fabric_costs import AltoSnapshot
from controller.alto.path_vectors import multipart
from controller.alto.update_stream import UpdateStream
from topologies import Fabric

ADDRESS = "127.0.0.1"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MOST_CONNECTIONS = 64
MOST_STREAMS = 16
LARGEST_BODY_B = 1 << 20
LARGEST_HEAD_B = 1 << 14
IDLE_S = 30.0
"""A connection without a whole request head for so long is closed."""

BODY_S = 10.0
WRITE_S = 5.0
"""A client that does not take its answer or event for so long is disconnected."""

KEEP_ALIVE_S = 15.0
"""Between two lines of a stream, a comment at least, so that both ends know that the other one is there."""

RETRY_S = 1
BACKLOG = 64

Source = Callable[[], AltoSnapshot | None]
"""Reads the latest snapshot; None where there is none. It may block, for a second at most."""


class AltoServer:
    """Serves a fabric's resources. `source` is read every `every_s`; what it says last is what everybody gets.

    ValueError for a fabric too large to be served, OSError when the port cannot be bound.
    """

    def __init__(self, fabric: Fabric, source: Source, *, every_s: float = 1.0) -> None:
        self.resources = AltoResources(fabric)
        self.streams: dict[str, tuple[UpdateStream, asyncio.Event]] = {}
        self.snapshot: AltoSnapshot | None = None
        self._source = source
        self._every_s = every_s
        logging.getLogger("tornado").setLevel(logging.CRITICAL)  # what a client sends is not our log

    def listen(self, port: int) -> int:
        """Bind to a port of the loopback, 0 for a free one, and answer as soon as the loop runs. Its number."""
        application = web.Application([("/updates/streams/([0-9a-f]+)", _Control), ("/.*", _Handler)])
        application.settings["alto"] = self
        server = _BoundedServer(
            application,
            max_body_size=LARGEST_BODY_B,
            max_header_size=LARGEST_HEAD_B,
            idle_connection_timeout=IDLE_S,
            body_timeout=BODY_S,
            no_keep_alive=False,
        )
        sockets = netutil.bind_sockets(port, ADDRESS, backlog=BACKLOG)
        server.add_sockets(sockets)
        return int(sockets[0].getsockname()[1])

    async def watch(self) -> None:
        """Read the source until cancelled and tell the streams what is new."""
        loop = asyncio.get_running_loop()
        while True:
            snapshot = await loop.run_in_executor(None, self._source)
            if snapshot is not None and (
                self.snapshot is None or snapshot.sampled_unix_s > self.snapshot.sampled_unix_s
            ):
                self.snapshot = snapshot
                for _, news in self.streams.values():
                    news.set()
            await asyncio.sleep(self._every_s)


def serve_alto(
    fabric: Fabric, source: Source, port: int, *, every_s: float = 1.0, say: Callable[[int], None] = lambda _: None
) -> None:
    """Serve until interrupted; `say` is given the port when it is bound.

    A signal whose handler raises is handled when the loop has ended: what is raised inside a callback of the loop is
    logged, and goes on.
    """
    handlers = {int(number): found for number in SIGNALS if callable(found := signal.getsignal(number))}
    came: list[int] = []

    async def serve() -> None:
        server = AltoServer(fabric, source, every_s=every_s)
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def end(number: int) -> None:
            came.append(number)
            task.cancel()

        for number in handlers:
            loop.add_signal_handler(number, end, number)
        say(server.listen(port))
        await server.watch()

    try:
        asyncio.run(serve())
    except asyncio.CancelledError:
        if not came:
            raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        handlers[came[0]](came[0], None)


class _BoundedServer(HTTPServer):
    """Refuses connections beyond `MOST_CONNECTIONS`."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        super().initialize(*args, **kwargs)
        self._open = 0

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        if self._open >= MOST_CONNECTIONS:
            stream.close()
            return
        self._open += 1
        super().handle_stream(stream, address)

    def on_close(self, server_conn: object) -> None:
        self._open -= 1
        super().on_close(server_conn)


class _Handler(web.RequestHandler):
    """Every resource, by its path."""

    @property
    def alto(self) -> AltoServer:
        found: AltoServer = self.settings["alto"]
        return found

    def initialize(self) -> None:
        self.news = asyncio.Event()

    def set_default_headers(self) -> None:
        self.set_header("Server", "netkv")

    async def get(self, *_: str) -> None:
        if self.request.path in ("/", "/directory"):
            await self.send(200, media.DIRECTORY, _json(self.alto.resources.directory))
        elif (resource := self.alto.resources.by_uri.get(self.request.path)) is None:
            await self.send(404)
        elif resource.accepts:
            await self.refuse_method("POST")
        else:
            await self.answer(b"")

    async def post(self, *_: str) -> None:
        resource = self.alto.resources.by_uri.get(self.request.path)
        if resource is None:
            await self.send(404)
        elif not resource.accepts:
            await self.refuse_method("GET")
        elif self.sent_type() != resource.accepts:
            await self.send(415)
        elif resource.answer is None:
            await self.stream()
        else:
            await self.answer(self.request.body)

    def on_connection_close(self) -> None:
        self.news.set()

    def write_error(self, status_code: int, **_: Any) -> None:
        """A method that no resource has, or an error of ours: the status alone."""
        self.clear_header("Content-Type")
        self.finish()

    def sent_type(self) -> str:
        return self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    async def refuse_method(self, allowed: str) -> None:
        self.set_header("Allow", allowed)
        await self.send(405)

    async def answer(self, body: bytes) -> None:
        """The resource's answer to a request, or the error that it has."""
        resource = self.alto.resources.by_uri[self.request.path]
        assert resource.answer is not None
        snapshot = self.alto.snapshot
        try:
            given = parse_body(body) if resource.accepts else {}
            parts = resource.answer(AltoRequest(given, f"ipv4:{self.request.remote_ip}", snapshot))
        except AltoError as problem:
            await self.send(400, media.ERROR, _json(problem.document()))
            return
        except NoSnapshotError:
            self.set_header("Retry-After", str(RETRY_S))
            await self.send(503)
            return
        if snapshot is not None:  # RFC 9439, 6.2
            self.set_header("Last-Modified", email.utils.formatdate(snapshot.sampled_unix_s, usegmt=True))
        if len(parts) == 1:
            await self.send(200, parts[0].media_type, _json(parts[0].document))
        else:
            await self.send(200, *multipart(parts, secrets.token_hex(8)))

    async def send(self, status: int, media_type: str = "", body: bytes = b"") -> None:
        self.set_status(status)
        if media_type:
            self.set_header("Content-Type", media_type)
        else:
            self.clear_header("Content-Type")
        if body:
            self.write(body)
        with suppress(StreamClosedError):
            try:
                await asyncio.wait_for(self.finish(), WRITE_S)
            except TimeoutError:
                self.leave()

    def leave(self) -> None:
        """Close the connection, whatever is still to be sent."""
        self.request.connection.stream.close()  # type: ignore[union-attr]

    async def stream(self) -> None:
        """The update stream service: events until the client leaves or has removed everything."""
        alto = self.alto
        if len(alto.streams) >= MOST_STREAMS:
            self.set_header("Retry-After", str(RETRY_S))
            await self.send(503)
            return
        number = secrets.token_hex(16)
        uri = f"{self.request.protocol}://{self.request.host}/updates/streams/{number}"
        stream = UpdateStream(alto.resources, f"ipv4:{self.request.remote_ip}", uri)
        try:
            stream.start(parse_body(self.request.body))
        except AltoError as problem:
            await self.send(400, media.ERROR, _json(problem.document()))
            return
        alto.streams[number] = stream, self.news
        self.set_header("Content-Type", media.EVENT_STREAM)
        self.set_header("Cache-Control", "no-store")
        try:
            while True:
                self.news.clear()
                events = b"".join(event.encode() for event in stream.events(alto.snapshot))
                self.write(events or b": still here\n\n")
                await asyncio.wait_for(self.flush(), WRITE_S)
                if stream.ended:
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.news.wait(), KEEP_ALIVE_S)
        except (StreamClosedError, TimeoutError):
            self.leave()
        finally:
            del alto.streams[number]


class _Control(_Handler):
    """The stream control service of a stream, whose number nobody else knows."""

    async def get(self, *_: str) -> None:
        await self.refuse_method("POST")

    async def post(self, *path: str) -> None:
        found = self.alto.streams.get(path[0])
        if found is None:
            await self.send(404)
        elif self.sent_type() != media.UPDATE_STREAM_PARAMETERS:
            await self.send(415)
        else:
            stream, news = found
            try:
                stream.control(parse_body(self.request.body))
            except AltoError as problem:
                await self.send(400, media.ERROR, _json(problem.document()))
                return
            news.set()
            await self.send(204)


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
