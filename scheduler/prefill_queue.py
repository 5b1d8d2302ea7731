"""Which prefill instance takes a request: the same rule for every decode policy, so that only the latter differs."""

from __future__ import annotations


class PrefillQueues:
    """The least outstanding prefill work, in seconds; ties go to whoever was used longest ago, then to the lower id."""

    def __init__(self, prefill_ids: tuple[int, ...]) -> None:
        self._work_s = dict.fromkeys(prefill_ids, 0.0)
        self._used = dict.fromkeys(prefill_ids, 0)
        self._turn = 0

    def assign(self, prefill_s: float) -> int:
        """Choose an instance for that much work and book it."""
        chosen = min(self._work_s, key=lambda p: (round(self._work_s[p], 9), self._used[p], p))
        self._turn += 1
        self._used[chosen] = self._turn
        self._work_s[chosen] += prefill_s
        return chosen

    def done(self, prefill_id: int, prefill_s: float) -> None:
        self._work_s[prefill_id] -= prefill_s
