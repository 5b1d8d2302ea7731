"""Targets that are streams: the workers' wire protocol and control lines, and the oracle's documents."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from controller.config import ControllerConfig
from controller.cost_document import Instant, cost_document
from controller.counters import LinkCounters
from controller.polls import PollStatistics
from scheduler import OracleError, parse_document
from testbed.oracle_client import OracleClient, OracleUnavailableError
from tests.support.fuzzing.target import FaultError, Target, check_message
from tests.support.fuzzing.values import damaged, mutated, number, value, written
from topologies import FabricSpec, build_fattree
from workers.background import BackgroundWorker
from workers.batch import Batch
from workers.connections import ConnectionPool
from workers.control_channel import ControlChannel
from workers.decode import DecodeWorker
from workers.inbound import Receiver
from workers.loop import READABLE, Loop
from workers.outbound import SocketSender
from workers.prefill import PrefillWorker
from workers.sink import Sink
from workers.streams import ABORT, StreamOptions
from workers.wire import ACK_BYTES, HEADER_BYTES, Header, WireError, pack_header, unpack_ack, unpack_header

OPERATION = struct.Struct("!BBH")
"""One step of a peer or the driver: what, on which of three connections or requests, and with how many bytes."""

MOST_OPERATIONS = 40
EVENT_MOST_BYTES = 1 << 20
CONTROL = "control.sock"
SMALL_FABRIC = FabricSpec(pods=1, racks_per_pod=1)


class NoNetwork(StreamOptions):
    """Streams of which none is ever connected: no case sends a packet."""

    def connect(self, address: tuple[str, int], slot: int, stripe: int) -> socket.socket:
        raise ConnectionRefusedError(111, "Connection refused")

    def bind_datagrams(self, sock: socket.socket, address: tuple[str, int], slot: int, stripe: int) -> None:
        raise ConnectionRefusedError(111, "Connection refused")


def make_wire(rng: random.Random) -> bytes:
    script = []
    for _ in range(rng.randrange(1, 14)):
        kind = rng.randrange(6)
        if kind in (0, 1):
            total, stripes = rng.choice(((0, 1), (1, 1), (10, 2), (10, 3), (70_000, 1))), 0
            size, stripes = total
            stripe = rng.randrange(stripes)
            own = size // stripes + (stripe < size % stripes)
            header = pack_header(Header(rng.randrange(3), stripe, stripes, own, size, rng.random() < 0.4))
            body = header + bytes(rng.choice((own, own, own, own + 1, max(own - 1, 0))))
            if rng.random() < 0.3:
                body = mutated(rng, body, (header,))
        else:
            body = rng.randbytes(rng.choice((0, 1, 9, 44, 100)))
        script.append(OPERATION.pack(kind, rng.randrange(3), min(len(body), 65_535)) + body[:65_535])
    data = b"".join(script)
    return mutated(rng, data) if rng.random() < 0.3 else data


def _operations(case: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    for _ in range(MOST_OPERATIONS):
        if at + OPERATION.size > len(case):
            return
        kind, which, count = OPERATION.unpack_from(case, at)
        at += OPERATION.size
        yield kind % 6, which % 3, case[at : at + count]
        at += count


def read_as_wire(_: Path, case: bytes) -> None:
    for size, unpack in ((HEADER_BYTES, unpack_header), (ACK_BYTES, unpack_ack)):
        with suppress(WireError):
            unpack(case[:size])
    loop, listener = Loop(), socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    received: list[int] = []
    errors: list[str] = []
    receiver = Receiver(loop, listener, lambda *of: received.append(of[3]), lambda error, *_: errors.append(error))
    peers: dict[int, socket.socket] = {}
    with closing(listener), _rounds(loop) as turn:
        for kind, which, body in _operations(case):
            if kind < 3:
                if which not in peers:
                    peers[which] = socket.create_connection(listener.getsockname())
                    peers[which].setblocking(False)
                with suppress(OSError):
                    peers[which].send(body)
            elif kind == 3 and which in peers:
                peer = peers.pop(which)
                if len(body) % 2:
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
                peer.close()
            elif kind == 4:
                receiver.expect(which, len(body), 1 + len(body) % 3)
            else:
                (receiver.refuse, receiver.forget)[len(body) % 2](which)
            turn()
        for peer in peers.values():
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            peer.close()
        turn()
    for error in errors:
        check_message(error, "")
    if len(receiver.arrivals) > MOST_OPERATIONS:
        raise FaultError("more blobs than headers")


@contextmanager
def _rounds(loop: Loop) -> Iterator[Callable[[], None]]:
    """A function that has the loop serve what is ready, and no more."""
    here, there = socket.socketpair()

    def stop(_: int) -> None:
        here.recv(1)
        loop.stop()

    def turn() -> None:
        for _ in range(2):
            there.send(b"x")
            loop.run()

    loop.watch(here, READABLE, stop)
    with closing(here), closing(there):
        yield turn


COMMANDS: tuple[dict[str, Any], ...] = (
    {"do": "prefill", "request_id": 1, "prefill_s": 0.001},
    {"do": "prefill_at_once", "request_id": 1, "prefill_s": 0.0},
    {"do": "transfer", "request_id": 1, "bytes": 10, "stripes": 2, "address": ["10.0.0.1", 7001], "deadline_s": 9.0},
    {"do": "connect", "addresses": [["10.0.0.1", 7001]], "stripes": 2},
    {"do": "expect", "request_id": 1, "bytes": 0, "stripes": 1, "context_tokens": 10, "output_tokens": 2},
    {"do": "expect", "request_id": 2, "bytes": 10, "stripes": 2, "context_tokens": 10, "output_tokens": 2},
    {"do": "cancel", "request_id": 1},
    {
        "do": "flow_start",
        "flow_id": 1,
        "address": ["10.0.0.1", 7002],
        "connections": 2,
        "rate_bps": 1e6,
        "protocol": "tcp",
    },
    {
        "do": "flow_start",
        "flow_id": 2,
        "address": ["10.0.0.1", 7002],
        "connections": 2,
        "rate_bps": 1e6,
        "protocol": "udp",
    },
    {"do": "flow_stop", "flow_id": 1},
    {"do": "report"},
)


def make_commands(rng: random.Random) -> bytes:
    lines = []
    for _ in range(rng.randrange(1, 8)):
        command = dict(rng.choice(COMMANDS))
        if rng.random() < 0.6:
            name = rng.choice(list(command))
            if name != "do" or rng.random() < 0.2:
                command[name] = number(rng) if rng.random() < 0.5 else value(rng)
        lines.append(written(rng, command))
    data = b"\n".join(lines) + b"\n"
    if rng.random() < 0.4:
        data = mutated(rng, data)
    return bytes([rng.randrange(3)]) + data


@cache
def _listener(folder: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / CONTROL))
    listener.listen()
    return listener


def read_as_commands(folder: Path, case: bytes) -> None:
    listener = _listener(folder)
    channel = ControlChannel("worker", "h0", str(folder / CONTROL))
    driver, _ = listener.accept()
    with closing(driver):
        feeder = threading.Thread(target=_feed, args=(driver, case[1:]), daemon=True)
        feeder.start()
        with _handlers(channel, case[0] % 3 if case else 0) as handlers:
            channel.run(None, handlers)
        channel.close()
        feeder.join()


def _feed(driver: socket.socket, data: bytes) -> None:
    """Send all commands, and read what comes back as it comes."""
    with suppress(OSError):
        driver.sendall(data)
        driver.shutdown(socket.SHUT_WR)
        while driver.recv(1 << 16):
            pass


@contextmanager
def _handlers(channel: ControlChannel, role: int) -> Iterator[dict[str, Any]]:
    if role == 0:
        connections = ConnectionPool(channel.loop, NoNetwork(), persistent=False)
        prefill = PrefillWorker(channel, SocketSender(channel.loop, connections))
        yield {name: getattr(prefill, name) for name in ("prefill", "prefill_at_once", "transfer", "connect")}
        return
    with closing(channel.listen("127.0.0.1", 0)) as listener:
        if role == 1:
            receiver_for = partial(Receiver, channel.loop, listener)
            decode = DecodeWorker(channel, Batch(lambda _: 0.001, 4, 1000), receiver_for)
            yield {"expect": decode.expect, "cancel": decode.cancel}
            return
        with closing(channel.listen("127.0.0.1", 0, socket.SOCK_DGRAM)) as datagrams:
            background = BackgroundWorker(channel, Sink(channel.loop, listener, datagrams), NoNetwork())
            yield {"flow_start": background.start_flow, "flow_stop": background.stop_flow, "report": background.report}


@cache
def cost_example() -> dict[str, Any]:
    """A document of a small fabric whose links have all been measured."""
    fabric, config = build_fattree(SMALL_FABRIC), ControllerConfig()
    counters = LinkCounters(fabric, rate_scale=config.rate_scale, poll_s=config.poll_s)
    polls = PollStatistics(fabric.switch_by_dpid)
    made = cost_document(
        fabric, config, counters, programmed=set(), packet_ins=0, sequence=1, now=Instant(1.0, 2.0), polls=polls
    )
    links = {name: {**link, "utilisation": 0.25, "bytes": 10} for name, link in made["links"].items()}
    return {**made, "sampled_monotonic_s": 1.0, "sampled_unix_s": 2.0, "complete": True, "links": links}


def make_document(rng: random.Random) -> bytes:
    document = damaged(rng, cost_example()) if rng.random() < 0.9 else value(rng)
    data = written(rng, document) + rng.choice((b"\n", b"\n", b"\n", b"", b"\n\n", b"\n{}\n"))
    return mutated(rng, data) if rng.random() < 0.5 else data


class Liar:
    """A socket that answers every question with the same bytes and then ends the connection."""

    def __init__(self, path: Path) -> None:
        self.answer = b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            peer, _ = self._listener.accept()
            with peer, suppress(OSError):
                while peer.recv(1):
                    peer.sendall(self.answer)
                    if self.answer[-1:] != b"\n":
                        break


@cache
def _liar(path: Path) -> Liar:
    return Liar(path)


def read_as_document(folder: Path, case: bytes) -> None:
    path = folder / "oracle.sock"
    _liar(path).answer = case
    names = [link.name for link in build_small().links]
    client = OracleClient(path)
    try:
        for _ in range(2):
            sample = parse_document(client.fetch(5.0), names)
            if not (sample.utilisation >= 0).all() or not (sample.utilisation <= 1).all() or sample.sampled_s < 0:
                raise FaultError(f"believed {sample}")
    finally:
        client.close()


@cache
def build_small() -> Any:
    return build_fattree(SMALL_FABRIC)


def read_as_parsed_document(folder: Path, case: bytes) -> None:
    """The scheduler's own reader, which takes whatever JSON a client hands on."""
    try:
        document = json.loads(case)
    except (ValueError, RecursionError):
        return
    parse_document(document, [link.name for link in build_small().links])


STREAM_TARGETS = (
    Target("wire", make_wire, read_as_wire, ()),
    Target("commands", make_commands, read_as_commands, ()),
    Target("oracle", make_document, read_as_document, (OracleUnavailableError, OracleError)),
    Target("document", make_document, read_as_parsed_document, (OracleError,)),
)
