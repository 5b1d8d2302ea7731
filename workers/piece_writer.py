"""One piece of a blob on its way through a transfer engine, in a thread of its own: filled, submitted, asked after.

The engine's calls block where it does not know a peer yet, and its own waiting takes a whole processor; here a thread
sleeps between two questions. It ends when the engine has let go of every write: neither end's slot may be used before.
"""

from __future__ import annotations

import threading
import time
import zlib
from typing import TYPE_CHECKING, NamedTuple

from workers.mooncake_engine import Write
from workers.pieces import content_of, writes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.loop import Mailbox
    from workers.mooncake_engine import Engine, Lane

    OnWarm = Callable[[str], None]

ASK_S, ASK_MOST_S, ASK_SHARE = 0.0002, 0.001, 0.01
"""Between two questions a hundredth of the time so far, within these bounds: how late the end of a piece is seen."""

WARM_BYTES = 32_768
WARM_ROUNDS = 20
"""An engine opens one connection after another to a peer, each while writes wait for one: so many rounds of twice as
many writes as it shall open, each long enough for another connection to be made meanwhile."""


class Target(NamedTuple):
    """A peer of the engine: its segment, its address, and its ports that take no blobs."""

    segment: str
    host: str
    but: tuple[int, ...]


class Written(NamedTuple):
    """What came of a piece: its checksum, or an error (empty: none), and the lanes as they were when it began."""

    checksum: int
    lanes: list[Lane]
    error: str


def write_piece(
    engine: Engine,
    target: Target,
    identity: tuple[int, int],
    local: int,
    remote: int,
    piece_bytes: int,
    stripes: int,
    mailbox: Mailbox,
    on_written: Callable[[Written], None],
) -> None:
    """Fill `piece_bytes` at offset `local` of the engine's memory with the content of a request's piece (`identity`)
    and write them to the address `remote`; call back in the loop when the engine has let go of them."""

    def run() -> None:
        place = engine.memory[local : local + piece_bytes]
        place[:] = content_of(*identity, piece_bytes)
        own = engine.base + local
        writes = [Write(own + at, remote + at, size) for at, size in writes_of(piece_bytes, stripes)]
        handles = engine.submit(target.segment, writes)
        lanes = engine.lanes(target.host, target.but)  # now, when nothing waits for it
        checksum = zlib.crc32(place)
        failed = _failed_of(engine, handles)
        error = f"the engine failed {failed} of {len(writes)} writes" if failed else ""
        mailbox.post(lambda: on_written(Written(checksum, lanes, error)))

    threading.Thread(target=run, daemon=True).start()


def warm_up(
    engine: Engine, target: Target, local: int, remote: int, lanes: int, mailbox: Mailbox, on_warm: OnWarm
) -> None:
    """Have the engine learn of a peer and open its connections, with bytes that nobody reads; call back in the loop
    with an error, empty where there is none."""

    def run() -> None:
        error = ""
        for _ in range(WARM_ROUNDS):
            writes = [Write(engine.base + local, remote, WARM_BYTES)] * (2 * lanes)
            if _failed_of(engine, engine.submit(target.segment, writes)):
                error = "the engine does not reach its peer"
                break
            if len(engine.lanes(target.host, target.but)) >= lanes:
                break
        mailbox.post(lambda: on_warm(error))

    threading.Thread(target=run, daemon=True).start()


def _failed_of(engine: Engine, handles: list[int]) -> int:
    """How many writes failed, once all have ended."""
    began_s = time.monotonic()
    failed = handles.count(0)
    waiting = [handle for handle in handles if handle]
    while True:
        states = [(handle, engine.check(handle)) for handle in waiting]
        failed += sum(state < 0 for _, state in states)
        waiting = [handle for handle, state in states if state == 0]
        if not waiting:
            return failed
        time.sleep(min(max(ASK_SHARE * (time.monotonic() - began_s), ASK_S), ASK_MOST_S))
