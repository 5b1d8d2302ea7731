"""Our own transfers in flight: how many share each link, and how much of the oracle's utilisation is our own doing."""

from __future__ import annotations

import numpy as np

from scheduler.arrays import Floats
from scheduler.link_table import LinkTable


class InFlight:
    """Expected transfers (`count`) and bytes a second (`rate_Bps`) of our own on every link, shape [links].

    A transfer counts on a link by the share of its bytes that ECMP is expected to send there, and with the rate that
    was predicted for it: the scheduler knows what it started, not which way a hash sent it.
    """

    def __init__(self, table: LinkTable) -> None:
        self._table = table
        self.count: Floats = np.zeros(len(table.capacity_Bps))
        self.rate_Bps: Floats = np.zeros(len(table.capacity_Bps))
        self._transfers: dict[int, tuple[int, int, float]] = {}

    def start(self, request_id: int, prefill_id: int, decode_id: int, rate_Bps: float) -> None:
        self._transfers[request_id] = prefill_id, decode_id, rate_Bps
        self._table.book(self.count, self.rate_Bps, 1.0, rate_Bps, prefill_id, decode_id)

    def stop(self, request_id: int) -> None:
        prefill_id, decode_id, rate_Bps = self._transfers.pop(request_id)
        self._table.book(self.count, self.rate_Bps, -1.0, rate_Bps, prefill_id, decode_id)
        if not self._transfers:  # no drift from adding and taking away
            self.count[:] = 0
            self.rate_Bps[:] = 0

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._transfers

    def __len__(self) -> int:
        return len(self._transfers)
