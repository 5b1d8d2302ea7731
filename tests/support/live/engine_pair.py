"""A prefill and a decode worker at the ends of a cable, whose bytes our own sockets or a transfer engine moves."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.support.live.cable import FAR, NEAR, Prefix
from tests.support.workers_driver import Event, Worker

PORT = 7001
STRIPES = 4


class Moved(NamedTuple):
    """Both ends' accounts of a transfer."""

    sent: Event
    received: Event

    @property
    def took_s(self) -> float:
        """From the sender's start to the receiver's account of the last byte, as `kv_transfer_ms`."""
        return float(self.received["at_s"] - self.sent["started_s"])


class EnginePair:
    """Both workers, started and connected; `options` are the prefill worker's."""

    def __init__(
        self, directory: Path, ends: tuple[Prefix, Prefix], engine: str, *options: str, slot_bytes: int = 1 << 22
    ) -> None:
        self._stack = ExitStack()
        self._directory = directory
        self._ends = ends
        self._bare = engine == "sockets"
        self._engine = ("--engine", engine, "--lanes", str(STRIPES), "--slot-bytes", str(slot_bytes))
        self._numbers = 0
        try:
            self.decode = self.start_decode()
            self.prefill = self._worker(
                "prefill",
                ends[0],
                "--address",
                NEAR,
                "--persistent-connections",
                *options,
                "--congestion-control",
                "cubic",
            )
        except BaseException:
            self._stack.close()
            raise

    def start_decode(self) -> Worker:
        """The decode worker, also in the place of one that has ended."""
        self.decode = self._worker("decode", self._ends[1], "--address", FAR, "--port", str(PORT), "--zones", "2")
        return self.decode

    def _worker(self, role: str, end: Prefix, *options: str) -> Worker:
        worker = Worker(self._directory, role, role, *options, *self._engine, command=end, bare=self._bare)
        return self._stack.enter_context(worker)

    def connect(self) -> None:
        self.prefill.tell("connect", addresses=[[FAR, PORT]], stripes=STRIPES)
        said = self.prefill.wait_for()
        assert said["event"] == "connected", said

    def start(self, size: int, deadline_s: float = 60.0) -> int:
        """Announce and send a blob; its request's number."""
        self._numbers += 1
        moved: dict[str, Any] = {"request_id": self._numbers, "bytes": size, "stripes": STRIPES}
        self.decode.tell("expect", **moved, context_tokens=1, output_tokens=1)
        self.prefill.tell("transfer", **moved, address=[FAR, PORT], deadline_s=deadline_s)
        return self._numbers

    def end(self, number: int) -> Moved:
        return Moved(
            self.prefill.wait_for("transferred", request_id=number), self.decode.wait_for("received", request_id=number)
        )

    def move(self, size: int) -> Moved:
        return self.end(self.start(size))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
