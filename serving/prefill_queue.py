"""Which prefill instance takes a request: the same rule for every decode policy, so that only the latter differs."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from scheduler import compiled, load_compiler

SAME_WORK_PER_S = 1e9
"""Work is compared in whole nanoseconds: what differs by less is a rest of adding and taking away."""


@compiled
def idlest(work_s: NDArray[np.float64], used: NDArray[np.int64], dead: NDArray[np.bool_]) -> int:
    """The position with the least work that is not dead; the one used longest ago where several have it. -1: none."""
    best, least = -1, np.inf
    for at in range(len(work_s)):
        if dead[at]:
            continue
        work = np.rint(work_s[at] * SAME_WORK_PER_S)
        if best < 0 or work < least or (work == least and used[at] < used[best]):
            best, least = at, work
    return best


class PrefillQueues:
    """The least outstanding prefill work, in seconds; ties go to the one used longest ago, then to the lower id."""

    def __init__(self, prefill_ids: tuple[int, ...]) -> None:
        self._ids = tuple(sorted(prefill_ids))
        self._position = {prefill_id: at for at, prefill_id in enumerate(self._ids)}
        self._work_s = np.zeros(len(self._ids))
        self._used = np.zeros(len(self._ids), dtype=np.int64)
        self._turn = 0
        self._dead = np.zeros(len(self._ids), dtype=np.bool_)
        load_compiler()
        idlest(self._work_s, self._used, self._dead)  # compiled, or read from disk, before a request waits for it

    def assign(self, prefill_s: float, avoided: Collection[int] = ()) -> int | None:
        """Choose an instance for that much work and book it, one that is `avoided` where no other is running.

        None when none is.
        """
        out = self._dead
        if avoided:
            out = self._dead | np.isin(self._ids, list(avoided))
            out = self._dead if out.all() else out
        at = int(idlest(self._work_s, self._used, out))
        if at < 0:
            return None
        self._turn += 1
        self._used[at] = self._turn
        self._work_s[at] += prefill_s
        return self._ids[at]

    def set_dead(self, prefill_id: int, dead: bool) -> None:
        """Whether an instance has ended: it gets no work until it runs again."""
        self._dead[self._position[prefill_id]] = dead

    def is_dead(self, prefill_id: int) -> bool:
        return bool(self._dead[self._position[prefill_id]])

    def work_s(self, prefill_id: int) -> float:
        """The work that an instance has left, the latest included, seconds."""
        return float(self._work_s[self._position[prefill_id]])

    def done(self, prefill_id: int, prefill_s: float) -> None:
        self._work_s[self._position[prefill_id]] -= prefill_s
