"""Turns of a session: each arrives a delay after the answer to the one before, so not before that is known."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import replace

from workloads.request import Request, WorkloadError
from workloads.trace_formats import Record


class SessionStamps:
    """Gives a turn without a time of its own the stamp of the turn before: it can be no earlier.

    A later turn with a time of its own begins another session, which has the line in its name.
    """

    def __init__(self) -> None:
        self._latest: dict[str, tuple[str, float]] = {}

    def placed(self, place: str, record: Record) -> Record:
        """The record with a stamp. WorkloadError beginning with `place` where a session begins without one."""
        name = record.session
        if not name:
            return record
        if record.delay_ms is None:
            session = f"{name} (line {record.line})" if name in self._latest else name
            self._latest[name] = session, record.stamp
            return replace(record, session=session)
        if name not in self._latest:
            raise WorkloadError(
                f"{place}: timestamp: missing: the first turn of session {reprlib.repr(name)} needs one; others may"
                " have `delay`, in ms"
            )
        session, stamp = self._latest[name]
        return replace(record, session=session, stamp=stamp)


def turns_before(requests: Sequence[Request]) -> list[int | None]:
    """The position of the turn that each request waits for; None where it arrives by itself.

    A turn whose predecessors are not among the requests does so, too.
    """
    last: dict[str, int] = {}
    before: list[int | None] = []
    for at, request in enumerate(requests):
        before.append(last.get(request.session) if request.delay_s is not None else None)
        if request.session:
            last[request.session] = at
    return before
