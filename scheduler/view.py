"""What a policy knows of the network at the moment of one decision.

`nominal_Bps` and `available_Bps` are formulas of ours. `own_in_tier` and `tier_congestion` are what the paper's own
steps read, by third parties' accounts of arXiv 2606.03910v1 (`scheduler.policies.paper_cost`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scenario import SloSpec
from scheduler.achieved import Achieved
from scheduler.arrays import Floats, Ints
from scheduler.candidates import Candidates
from scheduler.in_flight import InFlight
from scheduler.link_table import LinkTable
from scheduler.oracle import NetworkSample
from workloads import Request

BACKGROUND_COMPETITORS = 2.0
"""Transfers' worth of foreign traffic that a new transfer is assumed to compete with on a full link.

The floor of `available_Bps`: TCP takes a share even of a saturated link. How many connections saturate it is not in the
counters; two transfers' worth (eight connections against our four stripes) is our choice.
"""

NO_TELEMETRY = "no telemetry"


class Expected(NamedTuple):
    """What is expected of one transfer. `by_model_s`: its duration before it is corrected by what others achieved."""

    kv_bytes: float
    rate_Bps: float
    duration_s: float
    by_model_s: float


class View:
    """The network as the scheduler knows it: capacities, the last telemetry snapshot, our own transfers in flight.

    `now_s` is the moment of the decision on the sample's clock. `rng` is the run's random stream for ties, `slo` the
    service-level objective of a request. `by_tier`: one utilisation for all links of a tier instead of each link's own.
    A snapshot is the mean over `window_s` seconds before its time (0: that very instant). `batch_slots`: most requests
    in a decode batch. `iteration_s`: a decode step with one request, seconds. `overlap`: the share of a transfer that
    may leave during the prefill, which then starts at the decision and lasts `prefill_s(tokens)`.
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
        slo: SloSpec = SloSpec(),  # noqa: B008 - frozen
        by_tier: bool = False,
        window_s: float = 0.0,
        batch_slots: int = 64,
        iteration_s: float = 0.03,
        overlap: float = 0.0,
        prefill_s: Callable[[int], float] = lambda tokens: 0.0,
    ) -> None:
        self._table = table
        self._in_flight = in_flight
        self._kappa = kv_bytes_per_token
        self._stripes = stripes
        self._full = transfer_full
        self._by_tier = by_tier
        self._window_s = window_s
        self.rng = rng
        self.slo = slo
        self.batch_slots = batch_slots
        self.iteration_s = iteration_s
        self._overlap = overlap
        self._prefill_s = prefill_s
        self._sample: NetworkSample | None = None
        self._others_Bps: Floats | None = None
        self._unsettled = False  # some of these are in flight
        self._outdated = False  # and a later decision may read what was found
        self._why_none = NO_TELEMETRY
        self._telemetry_read = False
        self.now_s = 0.0
        self._achieved = Achieved()
        self._available: tuple[int, Floats] | None = None

    def move_to(self, now_s: float) -> None:
        """The moment of the next decision; what was computed for the last one is forgotten."""
        self.now_s = now_s
        self._available = None
        self._telemetry_read = False
        self._outdated = self._unsettled

    def adopt(self, sample: NetworkSample) -> None:
        """Use a new snapshot. What our own transfers put on the links during its window is subtracted from it.

        As long as some of these are in flight this is done anew at each decision that reads it: what they really move
        is known when they end, and the longer they run the less it was.
        """
        self._sample = sample
        self._take_out_our_own()
        self._available = None

    def lose(self, reason: str) -> None:
        """Use no snapshot until the next one is adopted."""
        self._sample = self._others_Bps = self._available = None
        self._unsettled = self._outdated = False
        self._why_none = f"{NO_TELEMETRY}: {reason}"

    @property
    def sample(self) -> NetworkSample | None:
        """The telemetry snapshot in use; None without one."""
        return self._sample

    @property
    def capacity_Bps(self) -> Floats:
        """Capacity of every link, shape [links], bytes/s."""
        return self._table.capacity_Bps

    @property
    def link_level(self) -> Ints:
        """Level of every link, shape [links]: a path of tier t crosses links of levels 0 to t."""
        return self._table.link_level

    @property
    def link_names(self) -> tuple[str, ...]:
        """Name of every link, in the order of all arrays of links."""
        return self._table.link_names

    @property
    def place(self) -> Ints:
        """Where every instance of the fabric stands, shape [instances, 3]: pod, rack of the pod, server of the rack."""
        return self._table.place

    @property
    def others_Bps(self) -> Floats | None:
        """Other traffic than ours on every link by the snapshot, shape [links], bytes/s; None without one."""
        self._telemetry_read = True
        return self._others()

    @property
    def age_s(self) -> float:
        """Age of the telemetry snapshot, seconds; infinite without one."""
        return np.inf if self._sample is None else self._sample.age_s(self.now_s)

    @property
    def telemetry_read(self) -> bool:
        """Whether a policy has read telemetry at this decision, or would have if there were any."""
        return self._telemetry_read

    @property
    def missed(self) -> str:
        """Why a policy that read telemetry at this decision had none; empty if it had some or read none."""
        return self._why_none if self._telemetry_read and self._sample is None else ""

    def kv_bytes(self, request: Request, candidates: Candidates) -> Floats:
        """Bytes to move to each candidate, shape [D]: kappa x (prompt - cached), or the whole prompt's."""
        if self._full:
            return np.full(len(candidates), self.prompt_bytes(request))
        missing: Floats = (request.input_length - candidates.cached_tokens).astype(np.float64)
        missing *= self._kappa
        return missing

    def prompt_bytes(self, request: Request) -> float:
        """KV bytes of the whole prompt, whatever is cached."""
        return self._kappa * request.input_length

    def latency_s(self, candidates: Candidates) -> Floats:
        """One-way latency to each candidate, shape [D], seconds: a constant of the tier."""
        return self._table.latency_s[candidates.prefill_id]

    def moving_s(self, request: Request, sending_s: Floats) -> Floats:
        """From the decision to the last byte out, shape [D], seconds, where sending all bytes takes `sending_s`.

        That itself, unless part of them leaves during the prefill: max(prefill + (1 - overlap) sending, sending).
        """
        if not self._overlap:
            return sending_s
        prefill_s = self._prefill_s(request.input_length)
        moving_s: Floats = np.maximum(prefill_s + (1 - self._overlap) * sending_s, sending_s)
        return moving_s

    def tier_Bps(self, candidates: Candidates) -> Floats:
        """Nominal bandwidth of the tier of each candidate, shape [D], bytes/s, whatever is in flight."""
        of_tier: Floats = self._table.tier_Bps[candidates.tier]
        return of_tier

    def nominal_Bps(self, candidates: Candidates) -> Floats:
        """The tier's nominal bandwidth, shared evenly with our own transfers at either end, shape [D], bytes/s."""
        nominal: Floats = self.tier_Bps(candidates) / (1 + self._at_the_ends(candidates))
        return nominal

    def available_Bps(self, candidates: Candidates) -> Floats:
        """Bandwidth for one more transfer to each candidate, shape [D], bytes/s; `nominal_Bps` without a snapshot.

        On each link, with n our own transfers in flight and b the foreign transfers' worth of a full link:
        max((capacity - others) / (1 + n), capacity / (1 + n + b)); then the bottleneck over the path's links.
        `by_tier`: the same, on one link that stands for the tier.
        """
        self._telemetry_read = True
        if self._available is None or self._available[0] != candidates.prefill_id:
            found = self._find_available_Bps(candidates)
            found.flags.writeable = False
            self._available = candidates.prefill_id, found
        return self._available[1]

    def achieved(self, candidates: Candidates) -> Floats:
        """The part of `available_Bps` that our transfers to the tier of each candidate got so far, shape [D], 0-1.

        1 without a snapshot, when `available_Bps` is another model's.
        """
        if self._sample is None:
            return np.ones(len(candidates))
        share: Floats = self._achieved.share[candidates.tier]
        return share

    def _achieved_in(self, tier: int) -> float:
        return 1.0 if self._sample is None else float(self._achieved.share[tier])

    def transferred(self, tier: int, by_model_s: float, took_s: float) -> None:
        """A transfer of ours, predicted from a snapshot, has ended."""
        self._achieved.see(tier, by_model_s, took_s)

    def available_beside_Bps(self, candidates: Candidates, others_Bps: Floats) -> Floats:
        """What `available_Bps` would be with this other traffic on the links, shape [links], bytes/s, instead."""
        if self._by_tier:
            return self._available_on_tier_Bps(candidates, others_Bps)
        return self._table.available(
            candidates.prefill_id, self._stripes, others_Bps, self._in_flight.count, BACKGROUND_COMPETITORS
        )

    def own_in_tier(self, candidates: Candidates) -> Ints:
        """Our own transfers in flight from the request's prefill instance in the tier of each candidate, shape [D]."""
        in_tier: Ints = self._in_flight.by_tier(candidates.prefill_id)[candidates.tier]
        return in_tier

    def tier_congestion(self, candidates: Candidates) -> Floats:
        """Mean utilisation of the links of the tier of each candidate, shape [D], 0-1; 0 without a snapshot.

        A tier's links are those of its highest level: servers to ToR, ToR to aggregation, aggregation to core. As the
        snapshot has them, our own transfers included.
        """
        self._telemetry_read = True
        if self._sample is None:
            return np.zeros(len(candidates))
        used_Bps = self._sample.utilisation * self._table.capacity_Bps
        congestion: Floats = self._table.level_utilisation(used_Bps)[candidates.tier]
        return congestion

    def transfer(self, request: Request, candidates: Candidates, at: int) -> Expected:
        """What is expected of the transfer to the candidate at a position: bytes, bandwidth (bytes/s), duration (s)."""
        cached = 0 if self._full else int(candidates.cached_tokens[at])
        kv_bytes = self._kappa * (request.input_length - cached)
        model_Bps = float(self.available_Bps(candidates)[at])
        rate_Bps = model_Bps * self._achieved_in(int(candidates.tier[at]))
        if not kv_bytes:
            return Expected(0.0, rate_Bps, 0.0, 0.0)
        latency_s = float(self.latency_s(candidates)[at])
        out_s, by_model_s = kv_bytes / rate_Bps, kv_bytes / model_Bps
        if self._overlap:
            out_s, by_model_s = self.moving_s(request, np.array([out_s, by_model_s])).tolist()
            rate_Bps = kv_bytes / out_s
        return Expected(kv_bytes, rate_Bps, latency_s + out_s, latency_s + by_model_s)

    def _others(self) -> Floats | None:
        if self._outdated:
            self._take_out_our_own()
        return self._others_Bps

    def _take_out_our_own(self) -> None:
        sample, capacity_Bps = self._sample, self._table.capacity_Bps
        assert sample is not None
        own_Bps, self._unsettled = self._in_flight.own_Bps(sample.sampled_s, self._window_s, self.now_s)
        others_Bps = sample.utilisation * capacity_Bps
        others_Bps -= own_Bps
        np.maximum(others_Bps, 0, out=others_Bps)
        self._others_Bps = np.minimum(others_Bps, capacity_Bps, out=others_Bps)
        self._outdated = False

    def _find_available_Bps(self, candidates: Candidates) -> Floats:
        others_Bps = self._others()
        if others_Bps is None:
            return self.nominal_Bps(candidates)
        return self.available_beside_Bps(candidates, others_Bps)

    def _available_on_tier_Bps(self, candidates: Candidates, others_Bps: Floats) -> Floats:
        nominal = self.tier_Bps(candidates)
        others = nominal * self._table.tier_utilisation(others_Bps)[candidates.tier]
        sharing = 1 + self._at_the_ends(candidates)
        left: Floats = np.maximum((nominal - others) / sharing, nominal / (sharing + BACKGROUND_COMPETITORS))
        return left

    def _at_the_ends(self, candidates: Candidates) -> Floats:
        """Our own transfers in flight on the busier end of each path, shape [D]: NICs, or NVLink within a server."""
        count, table, tier = self._in_flight.count, self._table, candidates.tier
        source = np.where(
            tier >= 1, count[table.up_server[candidates.prefill_id]], count[table.up_instance[candidates.prefill_id]]
        )
        target = np.where(tier >= 1, count[table.down_server], count[table.down_instance])
        busier: Floats = np.maximum(source, target)
        return busier
