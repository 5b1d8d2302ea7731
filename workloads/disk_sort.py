"""Records in order of time, however far out of order they are: sorted parts on disk, merged."""

from __future__ import annotations

import heapq
import pickle
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import IO

from workloads.trace_records import Record

PART = 20_000
"""Records of a part; one part is sorted in memory and never written."""


def sorted_on_disk(records: Iterable[Record], part: int = PART) -> Iterator[Record]:
    """The records by their stamps, those of a stamp in their order. Temporary files are unnamed and gone at the end."""
    source = iter(records)
    with ExitStack() as files:
        parts: list[Iterator[Record]] = []
        while taken := sorted(islice(source, part), key=_stamp):
            if not parts and len(taken) < part:
                yield from taken
                return
            file = files.enter_context(tempfile.TemporaryFile(prefix="netkv-trace-"))
            for record in taken:
                pickle.dump(record, file)
            file.seek(0)
            parts.append(_read_back(file, len(taken)))
        yield from heapq.merge(*parts, key=_stamp)


def _read_back(file: IO[bytes], count: int) -> Iterator[Record]:
    for _ in range(count):
        record: Record = pickle.load(file)
        yield record


def _stamp(record: Record) -> float:
    return record.stamp
