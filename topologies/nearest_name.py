"""The name that somebody may have meant by one that does not exist. Here, because every package may import this one."""

from __future__ import annotations

from collections.abc import Iterable

LIKE_ENOUGH = 0.6
"""Least similarity of two names, by `difflib.SequenceMatcher.ratio`: its own default."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` with the known name that is most like `name`; empty where none is like it."""
    from difflib import get_close_matches  # needed only when something is wrong

    found = get_close_matches(name, list(known), n=1, cutoff=LIKE_ENOUGH)
    return f" (did you mean {found[0]}?)" if found else ""
