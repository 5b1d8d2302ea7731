"""Our own transfers in flight: how many share each link, and which part of the oracle's utilisation is ours."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import NamedTuple

import numpy as np

from scheduler.arrays import Floats, Ints
from scheduler.link_table import LinkTable

REMEMBERED_S = 5.0
"""How long an ended transfer is remembered, seconds: longer than the age of a snapshot fetched without delay."""


class Span(NamedTuple):
    """One transfer of ours: its ends, its rate, and when it ran, seconds on the sample's clock; its bytes.

    `rate_Bps` is the rate predicted for it while it runs, the real one once it has ended.
    """

    prefill_id: int
    decode_id: int
    rate_Bps: float
    started_s: float
    ended_s: float
    kv_bytes: float

    def rate_by(self, now_s: float) -> float:
        """What it moved at most, bytes/s: the whole in the time since it started, if it still runs at `now_s`."""
        runs_s = now_s - self.started_s
        if self.ended_s < np.inf or not runs_s > 0:
            return self.rate_Bps
        return min(self.rate_Bps, self.kv_bytes / runs_s)


class InFlight:
    """The expected number of our own transfers on every link: `count`, shape [links].

    A transfer counts on a link by the share of its bytes that ECMP is expected to send there: the scheduler knows what
    it started, not which path a hash chose. `remembered_s`: how long an ended transfer is remembered, seconds.
    """

    def __init__(self, table: LinkTable, remembered_s: float = REMEMBERED_S) -> None:
        self._table = table
        self._remembered_s = remembered_s
        self.count: Floats = np.zeros(len(table.capacity_Bps))
        self._transfers: dict[int, Span] = {}
        self._ended: deque[Span] = deque()
        self._of_tier: defaultdict[int, Ints] = defaultdict(lambda: np.zeros(4, dtype=np.int64))

    def start(
        self,
        request_id: int,
        prefill_id: int,
        decode_id: int,
        rate_Bps: float,
        now_s: float = -np.inf,
        kv_bytes: float = np.inf,
    ) -> None:
        """A transfer of `kv_bytes` starts; `rate_Bps` is the rate predicted for it, bytes/s."""
        self._transfers[request_id] = Span(prefill_id, decode_id, rate_Bps, now_s, np.inf, kv_bytes)
        self._table.book(self.count, 1.0, prefill_id, decode_id)
        self._of_tier[prefill_id][self._tier_of(prefill_id, decode_id)] += 1

    def stop(self, request_id: int, kv_bytes: float = 0.0, now_s: float = -np.inf) -> None:
        """A transfer is over; `kv_bytes` and `now_s` give its real rate. KeyError when it was not in flight."""
        span = self._transfers.pop(request_id)
        self._table.book(self.count, -1.0, span.prefill_id, span.decode_id)
        self._of_tier[span.prefill_id][self._tier_of(span.prefill_id, span.decode_id)] -= 1
        if not self._transfers:  # no drift from adding and taking away
            self.count[:] = 0
        if now_s > span.started_s:
            rate_Bps = kv_bytes / (now_s - span.started_s)
            self._ended.append(span._replace(rate_Bps=rate_Bps, ended_s=now_s))
        while self._ended and self._ended[0].ended_s < now_s - self._remembered_s:
            self._ended.popleft()

    def by_tier(self, prefill_id: int) -> Ints:
        """Our own transfers in flight from a prefill instance in each tier, shape [4]."""
        return self._of_tier[prefill_id]

    def _tier_of(self, prefill_id: int, decode_id: int) -> int:
        return int(self._table.tier[prefill_id][self._table.position[decode_id]])

    def own_Bps(self, end_s: float, window_s: float, now_s: float = -np.inf) -> tuple[Floats, bool]:
        """Mean rate of our transfers on every link over the `window_s` up to `end_s`, shape [links], bytes/s.

        Transfers that have ended since are part of a sample of that window, too: they are not other traffic. They count
        at their real rate; those still in flight at the predicted one, or less if by `now_s` they have run for longer
        than that would take. The second result: whether any of these is still in flight, so that more will be known
        later. `window_s` 0: the rate at that instant.
        """
        own_Bps, open_yet = np.zeros(len(self.count)), False
        for span in (*self._ended, *self._transfers.values()):
            if window_s > 0:
                overlap = (min(span.ended_s, end_s) - max(span.started_s, end_s - window_s)) / window_s
            else:
                overlap = float(span.started_s <= end_s < span.ended_s)
            if overlap > 0:
                self._table.book(own_Bps, overlap * span.rate_by(now_s), span.prefill_id, span.decode_id)
                open_yet = open_yet or span.ended_s == np.inf
        return own_Bps, open_yet

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._transfers

    def __len__(self) -> int:
        return len(self._transfers)
