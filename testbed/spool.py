"""What a run collects and nobody asks for before its end, kept on disk: the process does not grow with the run."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Spool(Generic[Item]):
    """A list that can be appended to and read from its start, in a file without a name, which goes with the process.

    Where the disk takes no more, further items are kept in memory.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed with the spool
        self._written = self._bytes = 0
        self._in_memory: list[bytes] = []

    def append(self, item: Item) -> None:
        """Keep a copy of the item as it is now."""
        copied = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
        if not self._in_memory:
            with suppress(OSError):
                if os.pwrite(self._file.fileno(), copied, self._bytes) == len(copied):
                    self._bytes += len(copied)
                    self._written += 1
                    return
        self._in_memory.append(copied)

    def __len__(self) -> int:
        return self._written + len(self._in_memory)

    def __iter__(self) -> Iterator[Item]:
        """All items in order, each a new copy; nothing may be appended meanwhile."""
        with open(self._file.fileno(), "rb", closefd=False) as file:
            file.seek(0)
            for _ in range(self._written):
                yield pickle.load(file)
        for copied in self._in_memory:
            yield pickle.loads(copied)
