"""What a run collects and nobody asks for before its end, on disk: a process that replays for hours stays as large as
it was.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Spool(Generic[Item]):
    """A list that can be appended to and read from the start, in a file without a name: the kernel removes it with the
    process, however that ends. OSError when the disk is full.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the spool
        self._count = 0

    def append(self, item: Item) -> None:
        """Keep a copy of the item as it is now."""
        pickle.dump(item, self._file, pickle.HIGHEST_PROTOCOL)
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        """All items in order, each a new copy; nothing may be appended meanwhile."""
        self._file.seek(0)
        for _ in range(self._count):
            yield pickle.load(self._file)
