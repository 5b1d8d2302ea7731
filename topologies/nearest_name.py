"""The name that somebody may have meant by one that does not exist. Here, because every package may import this one."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path

LIKE_ENOUGH = 0.6
"""Least similarity of two names, by `difflib.SequenceMatcher.ratio`: its own default."""
ONE_SLIP = 0.8
"""Least similarity of the names of two files: many a folder holds names that are somewhat alike."""
MOST_FILES = 1000
"""Files of a folder that are looked at."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` with the known name that is most like `name`; empty where none is like it."""
    from difflib import get_close_matches  # needed only when something is wrong

    found = get_close_matches(name, list(known), n=1, cutoff=LIKE_ENOUGH)
    return f" (did you mean {found[0]}?)" if found else ""


def did_you_mean_file(path: Path) -> str:
    """The same with a file of the same folder; empty where `path` is there, or where its folder is not."""
    from difflib import get_close_matches

    names: list[str] = []
    with suppress(OSError, ValueError):  # ValueError: a NUL in the name
        names = [] if path.exists() else [place.name for place in islice(path.parent.iterdir(), MOST_FILES)]
    found = get_close_matches(path.name, names, n=1, cutoff=ONE_SLIP)
    return f" (did you mean {path.parent / found[0]}?)" if found else ""
