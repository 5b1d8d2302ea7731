"""What a broken invariant is, how it reads, and how a check reports the rows that break it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Violation:
    """One record of a run that breaks an invariant.

    `subject`: the request, link, instance or file; `request`: the request's number where it is one. `found` and
    `expected` are words for people.
    """

    subject: str
    found: str
    expected: str
    request: int | None = None
    run: str = ""
    invariant: str = ""

    def __str__(self) -> str:
        return f"{self.run}: {self.subject}: {self.invariant}: found {self.found}, expected {self.expected}"

    def of(self, run: str, invariant: str) -> Violation:
        """The same, said of a run and an invariant."""
        return replace(self, run=run, invariant=invariant)


class Said(NamedTuple):
    """What was found in a row, and what was expected there."""

    found: str
    expected: str


def of_requests(numbers: NDArray[np.int64], broken: Bools, say: Callable[[int], Said]) -> Iterator[Violation]:
    """A violation for each broken row of a table with these numbers of requests. `say` is given the row."""
    for row in np.flatnonzero(broken).tolist():
        found, expected = say(row)
        number = int(numbers[row])
        yield Violation(f"request {number}", found, expected, number)


def differ(found: Floats, expected: Floats, tolerance: float | Floats) -> Bools:
    """Where two numbers are further apart than a tolerance; NaN and infinity are near themselves alone."""
    alike = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        near = np.abs(found - expected) <= tolerance
    return np.asarray(~(alike | (near & np.isfinite(found) & np.isfinite(expected))))
