"""A memory cgroup of its own for a command: the kernel counts and limits what it and its children hold together."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
GONE_S = 30.0


@dataclass(frozen=True)
class MemoryCgroup:
    """A cgroup that is there. `join` is for the child, before it becomes the command (`preexec_fn`)."""

    folder: Path
    most_used: str

    @property
    def join(self) -> Callable[[], None]:
        return lambda: self._write("cgroup.procs", "0")

    @property
    def most_used_bytes(self) -> int:
        """The most that was counted at any moment, file pages that could have been given back among it."""
        return int((self.folder / self.most_used).read_text())

    @property
    def killed(self) -> int:
        """How many processes the kernel has ended for want of memory."""
        counts = "memory.oom_control" if self.folder.is_relative_to(V1) else "memory.events"
        return int(dict(line.split() for line in (self.folder / counts).read_text().splitlines())["oom_kill"])

    def _write(self, name: str, value: str) -> None:
        (self.folder / name).write_text(value)


@contextmanager
def memory_cgroup(limit_bytes: int) -> Iterator[MemoryCgroup]:
    """A cgroup with a limit of memory, without swap where there is any; empty again when the context ends.

    Version 1 (linux/Documentation/admin-guide/cgroup-v1/memory.rst) where its memory controller is mounted, else
    version 2 (cgroup-v2.rst). OSError where this machine lets nobody make one.
    """
    one = (V1 / "memory.limit_in_bytes").exists()
    folder = (V1 if one else V2) / f"netkv-test-{uuid.uuid4().hex[:8]}"
    if not one:
        (V2 / "cgroup.subtree_control").write_text("+memory")
    folder.mkdir()
    try:
        limits = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes") if one else ("memory.max",)
        for name in limits:
            if (folder / name).exists():
                (folder / name).write_text(str(limit_bytes))
        if (folder / "memory.swap.max").exists():
            (folder / "memory.swap.max").write_text("0")
        yield MemoryCgroup(folder, "memory.max_usage_in_bytes" if one else "memory.peak")
    finally:
        until_s = time.monotonic() + GONE_S
        while (folder / "cgroup.procs").read_text() and time.monotonic() < until_s:
            time.sleep(0.02)  # who was below a killed process ends when it learns of it
        folder.rmdir()
