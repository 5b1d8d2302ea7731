"""What a policy may see of the network at the moment of one decision.

The formulas are our reconstruction (arXiv 2606.03910 gives none).
"""

from __future__ import annotations

import numpy as np

from scheduler.candidates import Candidates, Floats
from scheduler.in_flight import InFlight
from scheduler.link_table import LinkTable
from scheduler.oracle import NetworkSample
from workloads import Request

BACKGROUND_COMPETITORS = 2.0
"""Transfers' worth of foreign traffic that a new transfer is taken to compete with on a link that looks full.

The floor of `available_Bps`: TCP takes a share even of a saturated link. How many connections saturate it is not in the
counters; two transfers' worth (eight connections against our four stripes) is our choice.
"""


class View:
    """The network as the scheduler sees it: capacities, the oracle's last sample, our own transfers in flight.

    `now_s` is the moment of the decision on the sample's clock. `rng` is the run's random stream for ties.
    """

    def __init__(
        self,
        table: LinkTable,
        in_flight: InFlight,
        *,
        kv_bytes_per_token: float,
        stripes: int,
        transfer_full: bool,
        rng: np.random.Generator,
    ) -> None:
        self._table = table
        self._in_flight = in_flight
        self._kappa = kv_bytes_per_token
        self._stripes = stripes
        self._full = transfer_full
        self.rng = rng
        self._sample: NetworkSample | None = None
        self._others_Bps: Floats | None = None
        self.now_s = 0.0
        self._available: tuple[int, Floats] | None = None

    def move_to(self, now_s: float) -> None:
        """The moment of the next decision; what was computed for the last one is forgotten."""
        self.now_s = now_s
        self._available = None

    def adopt(self, sample: NetworkSample) -> None:
        """Take a new sample. What our own transfers put on the links at this moment is taken out of it."""
        self._sample = sample
        used_Bps = sample.utilisation * self._table.capacity_Bps
        self._others_Bps = np.clip(used_Bps - self._in_flight.rate_Bps, 0, self._table.capacity_Bps)

    @property
    def sample(self) -> NetworkSample | None:
        return self._sample

    @property
    def age_s(self) -> float:
        """Age of the network sample, seconds; infinite while there is none."""
        return np.inf if self._sample is None else self._sample.age_s(self.now_s)

    def kv_bytes(self, request: Request, candidates: Candidates) -> Floats:
        """Bytes to move to each candidate, shape [D]: kappa x (prompt - cached), or the whole prompt's."""
        cached = 0 if self._full else candidates.cached_tokens
        return self._kappa * (request.input_length - cached + np.zeros(len(candidates)))

    def latency_s(self, candidates: Candidates) -> Floats:
        """One-way latency to each candidate, shape [D], seconds: a constant of the tier."""
        latency: Floats = self._table.tier_latency_s[candidates.tier]
        return latency

    def nominal_Bps(self, candidates: Candidates) -> Floats:
        """The tier's nominal bandwidth, shared evenly with our own transfers at either end, shape [D], bytes/s."""
        count = self._in_flight.count
        table = self._table
        tier = candidates.tier
        source = np.where(
            tier >= 1, count[table.up_server[candidates.prefill_id]], count[table.up_instance[candidates.prefill_id]]
        )
        target = np.where(tier >= 1, count[table.down_server], count[table.down_instance])
        nominal: Floats = table.tier_Bps[tier] / (1 + np.maximum(source, target))
        return nominal

    def available_Bps(self, candidates: Candidates) -> Floats:
        """Bandwidth for one more transfer to each candidate, shape [D], bytes/s; `nominal_Bps` while without a sample.

        On each link, with n our own transfers in flight and b the foreign transfers' worth of a full link:
        max((capacity - others) / (1 + n), capacity / (1 + n + b)); then the bottleneck over the path's links.
        """
        if self._available is None or self._available[0] != candidates.prefill_id:
            self._available = candidates.prefill_id, self._find_available_Bps(candidates)
        return self._available[1]

    def _find_available_Bps(self, candidates: Candidates) -> Floats:
        if self._others_Bps is None:
            return self.nominal_Bps(candidates)
        capacity, sharing = self._table.capacity_Bps, 1 + self._in_flight.count
        left = np.maximum((capacity - self._others_Bps) / sharing, capacity / (sharing + BACKGROUND_COMPETITORS))
        available_Bps = self._table.bottleneck(left, candidates.prefill_id, self._stripes)
        available_Bps.flags.writeable = False
        return available_Bps
