"""Which prefill instance takes a request: the same rule for every decode policy, so that only the latter differs."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

SAME_WORK_DECIMALS = 9
"""Work that differs by less than a nanosecond is the same: it is a rest of adding and taking away."""


class PrefillQueues:
    """The least outstanding prefill work, in seconds; ties go to the one used longest ago, then to the lower id."""

    def __init__(self, prefill_ids: tuple[int, ...]) -> None:
        self._ids = tuple(sorted(prefill_ids))
        self._position = {prefill_id: at for at, prefill_id in enumerate(self._ids)}
        self._work_s = np.zeros(len(self._ids))
        self._used = np.zeros(len(self._ids), dtype=np.int64)
        self._turn = 0
        self._dead = np.zeros(len(self._ids), dtype=np.bool_)

    def assign(self, prefill_s: float, avoided: Collection[int] = ()) -> int | None:
        """Choose an instance for that much work and book it, one that is `avoided` where no other is running.

        None when none is.
        """
        if self._dead.all():
            return None
        out = self._dead
        if avoided:
            out = self._dead | np.isin(self._ids, list(avoided))
            out = self._dead if out.all() else out
        work_s = np.where(out, np.inf, self._work_s.round(SAME_WORK_DECIMALS))
        idlest = np.flatnonzero(work_s == work_s.min())
        at = int(idlest[self._used[idlest].argmin()])
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
