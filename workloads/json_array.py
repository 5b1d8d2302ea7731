"""A JSON array read element by element: no more of it in memory than its longest element."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator
from typing import Any

from workloads.request import WorkloadError
from workloads.trace_file import LONGEST_LINE_BYTES, TraceFile

BLANK = " \t\r\n"
CUT_SHORT = 16
"""A complaint this near to the end of what was read may be of a word or number that goes on, characters."""


def elements(file: TraceFile) -> Iterator[tuple[int, Any]]:
    """The elements of the array that a file is, each with the line it begins on. WorkloadError for any other JSON."""
    decoder = json.JSONDecoder(object_pairs_hook=without_doubles)
    pieces = file.pieces()
    text, at, number = next(pieces, ""), 0, 1

    def skip(more: str) -> bool:
        """Move on past blanks and `more`; whether anything is left of the file."""
        nonlocal text, at, number
        while True:
            while at < len(text) and text[at] in BLANK + more:
                number += text[at] == "\n"
                at += 1
            if at < len(text):
                return True
            text, at = next(pieces, ""), 0
            if not text:
                return False

    skip("")
    at += 1  # the opening bracket
    separator = ""
    while True:
        if not skip(separator):
            raise WorkloadError(f"{file.path}:{file.number}: not JSON: the array does not end")
        if text[at] == "]":
            break
        while True:
            try:
                value, end = decoder.raw_decode(text, at)
            except json.JSONDecodeError as problem:
                more = _more(pieces, len(text) - at) if _goes_on(problem, text) else ""
                if not more or len(text) - at + len(more) > LONGEST_LINE_BYTES:
                    raise WorkloadError(
                        f"{file.path}:{number + text.count(chr(10), at, problem.pos)}: not JSON: {problem.msg}"
                    ) from None
                text, at = text[at:] + more, 0
            except WorkloadError as problem:
                raise WorkloadError(f"{file.path}:{number}: {problem}") from None
            except ValueError:
                raise WorkloadError(
                    f"{file.path}:{number}: not JSON that can be read: a number of thousands of digits"
                ) from None
            except RecursionError:
                raise WorkloadError(f"{file.path}:{number}: not JSON: nested too deep") from None
            else:
                break
        yield number, value
        number += text.count("\n", at, end)
        at, separator = end, ","
    at += 1
    if skip(""):
        raise WorkloadError(f"{file.path}:{number}: not JSON: text after the array's end")


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these names and values. WorkloadError where a name is there twice: which value is meant?"""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise WorkloadError(f"{reprlib.repr(twice)} twice in one object: leave one of them")
    return found


def _more(pieces: Iterator[str], characters: int) -> str:
    """What comes next, about as much as there is: an element that is read from its beginning each time is read few
    times."""
    found, count = [], 0
    for piece in pieces:
        found.append(piece)
        count += len(piece)
        if count >= characters:
            break
    return "".join(found)


def _goes_on(problem: json.JSONDecodeError, text: str) -> bool:
    """Whether the text may only have been cut short."""
    return problem.pos >= len(text) - CUT_SHORT or problem.msg.startswith("Unterminated string")
