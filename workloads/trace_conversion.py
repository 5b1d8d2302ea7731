"""A trace of any format written in ours, which is Mooncake's: a JSON object a line."""

from __future__ import annotations

import gzip
import json
from itertools import count
from pathlib import Path
from typing import IO, Any

from workloads.prefix_chains import BELOW_ALL_HASHES, PrefixChains
from workloads.request import Request, WorkloadError
from workloads.trace import Trace
from workloads.trace_report import REMEMBERED_BLOCKS

KEPT_APART = 1 << 62
"""Ids from here on are ours: of blocks whose id contradicts an earlier line."""
UNSHARED = 1 << 61
"""Ids from here on are ours: of prompts without ids, which share nothing."""


def convert_trace(
    path: Path, out: Path, *, time_unit: str | None = None, block_tokens: int | None = None
) -> tuple[int, list[str]]:
    """Write a trace to the new file `out` (gzip where it ends in .gz): the number of requests, and `Trace.notes`.

    In order of time, the first request at 0 ms, ids and their block size as they are; the first line says unit and
    block size too. WorkloadError as `Trace`, and where `out` exists or cannot be written; then nothing is left of it.
    """
    if out.is_symlink() or out.exists():
        raise WorkloadError(f"{out}: is there already; nothing was overwritten")
    if not out.parent.is_dir():
        raise WorkloadError(f"{out}: there is no folder {out.parent}")
    partial = out.with_name(f".{out.name}.partial")
    chains = PrefixChains(REMEMBERED_BLOCKS)
    with Trace(path, time_unit=time_unit, block_tokens=block_tokens, chains=chains, sort_all=True) as trace:
        try:
            with partial.open("wb") as file:
                if out.suffix == ".gz":
                    with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
                        _write(trace, packed)
                else:
                    _write(trace, file)
            partial.rename(out)
        except OSError as problem:
            raise WorkloadError(f"{out}: {problem.strerror or problem}") from None
        finally:
            partial.unlink(missing_ok=True)
        return trace.requests, trace.notes()


def _write(trace: Trace, file: IO[bytes] | gzip.GzipFile) -> None:
    start_s: float | None = None
    unshared = count(UNSHARED)
    for request in trace:
        start_s = request.timestamp_s if start_s is None else start_s
        blocks = -(-request.input_length // request.block_tokens)
        ids = request.block_ids or tuple(next(unshared) for _ in range(blocks))
        record: dict[str, Any] = {
            **_when(request, start_s),
            "input_length": request.input_length,
            "output_length": request.output_length,
            "hash_ids": [block if block > BELOW_ALL_HASHES >> 1 else _kept_apart(block) for block in ids],
        }
        if trace.requests == 1:
            record |= {"time_unit": "ms", "block_tokens": request.block_tokens}
        file.write(f"{json.dumps(record)}\n".encode())


def _when(request: Request, start_s: float) -> dict[str, Any]:
    """Its own time, or how long after the turn before it comes."""
    session = {"session_id": request.session} if request.session else {}
    if request.delay_s is not None:
        return session | {"delay": _whole_where_possible(round(request.delay_s * 1e3, 3))}
    return session | {"timestamp": _whole_where_possible(round((request.timestamp_s - start_s) * 1e3, 3))}


def _kept_apart(block: int) -> int:
    return KEPT_APART + BELOW_ALL_HASHES - block


def _whole_where_possible(value: float) -> float:
    return int(value) if value.is_integer() else value
