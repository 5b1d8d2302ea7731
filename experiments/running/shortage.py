"""What a machine ran out of while a command was at work, found behind the error that came of it, and the remedy."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass

DISK = "free some space, or choose another place"
MEMORY = "end other programs, ask for fewer requests or --jobs, or raise the limit, `ulimit -v`"
REMEDIES = {
    errno.ENOSPC: DISK,
    errno.EDQUOT: DISK,
    errno.EFBIG: "raise the limit of a file's size, `ulimit -f`",
    errno.EROFS: "mount it for writing, or choose another place",
    errno.EIO: "look at the disk, `dmesg`",
    errno.EMFILE: "raise the limit of this process, `ulimit -n 4096`",
    errno.ENFILE: "end other programs, or raise `sysctl fs.file-max`",
    errno.ENOMEM: MEMORY,
}
"""What to do by errno(3). An error with one of these says nothing of what the user typed."""

SIGNS_OF_NO_MEMORY = (
    *("failed to map segment from shared object", "cannot allocate memory", "can't start new thread"),
    *("error return without exception set", "returned null without setting an exception"),
)
"""What the loader of libraries, the start of a thread and CPython itself say, whose own error found no memory either:
these carry no number."""


@dataclass(frozen=True)
class Shortage:
    """What is short, what to do about it, and the file where one is known."""

    what: str
    remedy: str
    place: str = ""

    def __str__(self) -> str:
        return f"{self.place}{': ' * bool(self.place)}{self.what} ({self.remedy})"

    def added_to(self, complaint: str) -> str:
        """A complaint that came of it, with what that leaves out."""
        return f"{complaint} ({self.remedy})" if self.what in complaint else f"{complaint}: {self.what} ({self.remedy})"


def shortage_behind(problem: BaseException) -> Shortage | None:
    """The shortage that an error tells of, or one that it was raised for or while handling; None for other errors."""
    for one in _chain(problem):
        if isinstance(one, MemoryError) or any(sign in str(one).lower() for sign in SIGNS_OF_NO_MEMORY):
            return Shortage("out of memory", MEMORY)
        if isinstance(one, OSError) and one.errno in REMEDIES:
            place = one.filename if isinstance(one.filename, str) else ""
            return Shortage(str(one.strerror), REMEDIES[one.errno], place)
    return None


def _chain(problem: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised for, and so on; each once."""
    seen: list[BaseException] = []
    ahead = [problem]
    while ahead:
        one = ahead.pop()
        if one is not None and not any(one is other for other in seen):
            seen.append(one)
            ahead += [one.__context__, one.__cause__]
            yield one
