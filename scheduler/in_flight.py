"""Our own transfers in flight: how many share each link, and which part of the oracle's utilisation is ours."""

from __future__ import annotations

import numpy as np

from scheduler import kernels
from scheduler.arrays import Floats, Ints
from scheduler.link_table import LinkTable
from scheduler.wiring import SPAN, Records

REMEMBERED_S = 5.0
"""How long an ended transfer is remembered, seconds: longer than the age of a snapshot fetched without delay."""

FIRST_ROWS = 64


class InFlight:
    """The expected number of our own transfers on every link: `count`, shape [links].

    A transfer counts on a link by the share of its bytes that ECMP is expected to send there: the scheduler knows what
    it started, not which path a hash chose. `remembered_s`: how long an ended transfer is remembered, seconds.
    """

    def __init__(self, table: LinkTable, remembered_s: float = REMEMBERED_S) -> None:
        self._table = table
        self._remembered_s = remembered_s
        self.count: Floats = np.zeros(len(table.capacity_Bps))
        self._row_of: dict[int, int] = {}  # by request, in order of start, as the rows are
        self._between: dict[int, tuple[int, int]] = {}  # by request: prefill instance and tier
        self._under_way: Records = np.zeros(FIRST_ROWS, SPAN)  # with gaps where transfers have ended
        self._rows = 0
        self._ended: Records = np.zeros(FIRST_ROWS, SPAN)  # rows `_first_ended` to `_last_ended`, in order of their end
        self._first_ended = self._last_ended = 0
        self._of_tier: Ints = np.zeros((len(table.up_server), 4), dtype=np.int64)

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
        if self._rows == len(self._under_way):
            self._close_gaps()
        row = self._row_of[request_id] = self._rows
        self._rows += 1
        self._table.start(self._under_way, row, prefill_id, decode_id, rate_Bps, now_s, kv_bytes, self.count)
        between = self._between[request_id] = prefill_id, self._table.tier_of(prefill_id, decode_id)
        self._of_tier[between] += 1

    def stop(self, request_id: int, kv_bytes: float = 0.0, now_s: float = -np.inf) -> None:
        """A transfer is over; `kv_bytes` and `now_s` give its real rate. KeyError when it was not in flight."""
        row = self._row_of.pop(request_id)
        if self._last_ended == len(self._ended):
            self._make_room()
        self._of_tier[self._between.pop(request_id)] -= 1
        self._last_ended = self._table.stop(
            self._under_way, row, self._ended, self._last_ended, kv_bytes, now_s, self.count
        )
        if not self._row_of:  # no drift from adding and taking away
            self.count[:] = 0
            self._rows = 0
        oldest_s = now_s - self._remembered_s
        self._first_ended = kernels.first_since(self._ended, self._first_ended, self._last_ended, oldest_s)

    def by_tier(self, prefill_id: int) -> Ints:
        """Our own transfers in flight from a prefill instance in each tier, shape [4]."""
        in_tier: Ints = self._of_tier[prefill_id]
        return in_tier

    def own_Bps(self, end_s: float, window_s: float, now_s: float = -np.inf) -> tuple[Floats, bool]:
        """Mean rate of our transfers on every link over the `window_s` up to `end_s`, shape [links], bytes/s.

        Transfers that have ended since are part of a sample of that window, too: they are not other traffic. They count
        at their real rate; those still in flight at the predicted one, or less if by `now_s` they have run for longer
        than that would take. The second result: whether any of these is still in flight, so that more will be known
        later. `window_s` 0: the rate at that instant.
        """
        own_Bps = np.zeros(len(self.count))
        first, last = self._first_ended, self._last_ended
        self._table.book_spans(self._ended, first, last, end_s, window_s, now_s, own_Bps)
        open_yet = self._table.book_spans(self._under_way, 0, self._rows, end_s, window_s, now_s, own_Bps)
        return own_Bps, open_yet

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._row_of

    def __len__(self) -> int:
        return len(self._row_of)

    def _close_gaps(self) -> None:
        """Move the transfers under way together, with room for as many again."""
        rows = list(self._row_of.values())
        moved = np.zeros(max(FIRST_ROWS, 2 * len(rows)), SPAN)
        moved[: len(rows)] = self._under_way[rows]
        self._under_way, self._rows = moved, len(rows)
        self._row_of = {request_id: row for row, request_id in enumerate(self._row_of)}

    def _make_room(self) -> None:
        """Drop the rows of the forgotten, with room for as many again as are remembered."""
        kept = self._ended[self._first_ended : self._last_ended]
        self._ended = np.zeros(max(FIRST_ROWS, 2 * len(kept)), SPAN)
        self._ended[: len(kept)] = kept
        self._first_ended, self._last_ended = 0, len(kept)
