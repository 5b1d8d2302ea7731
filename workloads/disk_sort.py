"""Records in order of time, however far out of order they are: sorted parts on disk, merged."""

from __future__ import annotations

import heapq
import pickle
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import IO

from workloads.trace_formats import Record

PART = 20_000
"""Records of a part; one part is sorted in memory and never written."""
MOST_IDS = 4_000_000
"""Ids of blocks of a part, some 150 MB: a part of very long prompts has fewer records."""


def sorted_on_disk(records: Iterable[Record], part: int = PART) -> Iterator[Record]:
    """The records by their stamps, those of a stamp in their order. Temporary files are unnamed and gone at the end."""
    source = iter(records)
    with ExitStack() as files:
        parts: list[Iterator[Record]] = []
        ended = False
        while not ended:
            taken, ended = _part(source, part)
            if ended and not parts:
                yield from taken
                return
            file = files.enter_context(tempfile.TemporaryFile(prefix="netkv-trace-"))
            for record in taken:
                pickle.dump(record, file)
            file.seek(0)
            parts.append(_read_back(file, len(taken)))
        yield from heapq.merge(*parts, key=_stamp)


def _part(source: Iterator[Record], records: int) -> tuple[list[Record], bool]:
    """The next records, sorted, and whether they are the last ones."""
    taken: list[Record] = []
    ids = 0
    while len(taken) < records and ids < MOST_IDS:
        if (record := next(source, None)) is None:
            return sorted(taken, key=_stamp), True
        taken.append(record)
        ids += len(record.block_ids or ())
    return sorted(taken, key=_stamp), False


def _read_back(file: IO[bytes], count: int) -> Iterator[Record]:
    for _ in range(count):
        record: Record = pickle.load(file)
        yield record


def _stamp(record: Record) -> float:
    return record.stamp
