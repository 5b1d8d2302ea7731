"""The fabric as arrays, for scoring: which links lie between a prefill instance and every decode instance.

A path has fixed links at both ends (instance, server) and, from tier 2 up, a middle of multipath links: ECMP spreads
transfers over equal-cost choices. Both parts are stored by rack, so that one decision touches O(D + racks x cores)
numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import factorial
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from scheduler import kernels
from scheduler.arrays import Floats, Ints
from scheduler.wiring import Records, wire
from topologies import Fabric, Roles

Element = TypeVar("Element", bound=np.generic)


class ByPrefill(Generic[Element]):
    """One array [D] for each prefill instance, made at its first use: a large fabric has more than a run uses."""

    def __init__(self, make: Callable[[int], NDArray[Element]]) -> None:
        self._make = make
        self._made: dict[int, NDArray[Element]] = {}

    def __getitem__(self, prefill_id: int) -> NDArray[Element]:
        found = self._made.get(prefill_id)
        if found is None:
            found = self._made[prefill_id] = self._make(prefill_id)
            found.flags.writeable = False
        return found


class LinkTable:
    """Index arrays over the directed links of a fabric. D decode instances in ascending order of their id.

    capacity_Bps, link_names: [links]. tier[p], latency_s[p]: [D] for each prefill instance p. tier_Bps: [4] by tier.
    link_level: [links], 0 instance to server, 1 server to ToR, 2 ToR to aggregation, 3 aggregation to core.
    """

    def __init__(self, fabric: Fabric, roles: Roles) -> None:
        spec = fabric.spec
        self._wiring = wiring = wire(fabric, roles)
        self.decode_id = wiring.decode_id
        self.position = {decode: at for at, decode in enumerate(roles.decode)}
        self.capacity_Bps = wiring.capacity_Bps
        self.link_names = tuple(link.name for link in fabric.links)
        self.tier_Bps: Floats = np.array([spec.tier_rate_bps(tier) / 8 for tier in range(4)])
        self._groups = spec.aggregations_per_pod
        self._cores = spec.aggregations_per_pod * spec.cores_per_group
        self.tier_latency_s: Floats = np.array([spec.tier_latency_s(tier) for tier in range(4)])
        self.tier = ByPrefill(self._find_tier)
        self.latency_s = ByPrefill(lambda prefill_id: self.tier_latency_s[self.tier[prefill_id]])
        self.place: Ints = np.array([(i.pod, i.rack, i.server) for i in fabric.instances])
        self.place.flags.writeable = False
        self._place = [(i.server, i.rack, i.pod) for i in fabric.instances]
        self._decode_place = [np.array(of_all) for of_all in zip(*(self._place[d] for d in roles.decode), strict=True)]
        self.up_instance: Ints = wiring.instances["up_instance"].copy()
        self.up_server: Ints = wiring.instances["up_server"].copy()
        self.down_server: Ints = wiring.instances["down_server"][self.decode_id]
        self.down_instance: Ints = wiring.instances["down_instance"][self.decode_id]
        self._links_of_level = [
            np.unique(np.concatenate([self.up_instance, self.down_instance])),
            np.unique(np.concatenate([self.up_server, self.down_server])),
            *(np.unique([cables["up"], cables["down"]]) for cables in (wiring.rack_cables, wiring.core_cables)),
        ]
        self.link_level: Ints = np.zeros(len(self.capacity_Bps), dtype=np.int64)
        for name in ("up_server", "down_server"):
            self.link_level[wiring.instances[name]] = 1
        for level, links in enumerate(self._links_of_level[2:], start=2):
            self.link_level[links] = level
        self.link_level.flags.writeable = False

    def _find_tier(self, prefill_id: int) -> Ints:
        """What differs of server, rack and pod counts 1, 2 and 3, the last of them most; the same server is tier 0."""
        tier: Ints = np.zeros(len(self.decode_id), dtype=np.int64)
        for of_decode, here, distance in zip(self._decode_place, self._place[prefill_id], (1, 2, 3), strict=True):
            tier[of_decode != here] = distance
        return tier

    def available(self, prefill_id: int, stripes: int, others_Bps: Floats, count: Floats, competitors: float) -> Floats:
        """What one more transfer of `stripes` connections gets to every decode instance, shape [D], bytes/s.

        A link has max((capacity - others) / (1 + count), capacity / (1 + count + competitors)) left for it; others_Bps
        and count have shape [links]. At the ends all stripes share one link. In the middle a path carries the least of
        its links and the paths add up, less what is lost when a hash puts several stripes on one path: `spreading`, an
        expectation, not the hash of one particular flow. Paths across pods that share a ToR's link to one aggregation
        do not add up on it: they carry no more than the same two ToRs could exchange over the aggregations alone.
        """
        result: Floats = np.empty(len(self.decode_id))
        within, across = spreading(stripes, self._groups), spreading(stripes, self._cores)
        kernels.available(self._wiring, prefill_id, others_Bps, count, competitors, within, across, result)
        return result

    def level_utilisation(self, used_Bps: Floats) -> Floats:
        """Mean utilisation of the links of each level, shape [4].

        Level 0 joins instances to their server, 1 servers to their ToR, 2 ToRs to aggregations, 3 those to cores; a
        path of tier t crosses levels 0 to t.
        """
        return np.array(
            [np.mean(used_Bps[links]) / np.mean(self.capacity_Bps[links]) for links in self._links_of_level]
        )

    def tier_utilisation(self, used_Bps: Floats) -> Floats:
        """One utilisation a tier, shape [4]: that of its busiest level by `level_utilisation`."""
        busiest: Floats = np.maximum.accumulate(self.level_utilisation(used_Bps))
        return busiest

    def book(self, per_link: Floats, amount: float, prefill_id: int, decode_id: int) -> None:
        """Add `amount` to `per_link`, shape [links], by the share of a transfer's bytes expected on each under ECMP."""
        kernels.book(self._wiring, prefill_id, decode_id, amount, per_link)

    def tier_of(self, prefill_id: int, decode_id: int) -> int:
        """Distance of two instances, 0-3."""
        return int(self.tier[prefill_id][self.position[decode_id]])

    def start(
        self,
        spans: Records,
        row: int,
        prefill_id: int,
        decode_id: int,
        rate_Bps: float,
        now_s: float,
        kv_bytes: float,
        count: Floats,
    ) -> None:
        """Enter a transfer of ours in a row of `spans` and count it on its links."""
        amounts = float(rate_Bps), float(now_s), float(kv_bytes)  # an integer would be another function to compile
        kernels.start_span(self._wiring, spans, row, prefill_id, decode_id, *amounts, count)

    def stop(
        self, under_way: Records, row: int, ended: Records, last: int, kv_bytes: float, now_s: float, count: Floats
    ) -> int:
        """Move a transfer from `under_way` to `ended`, whose new end is returned, and count it on its links no more."""
        amounts = float(kv_bytes), float(now_s)
        return int(kernels.stop_span(self._wiring, under_way, row, ended, last, *amounts, count))

    def book_spans(
        self, spans: Records, first: int, last: int, end_s: float, window_s: float, now_s: float, per_link: Floats
    ) -> bool:
        """Add to `per_link`, shape [links], what these rows moved in a window; whether one runs yet."""
        return bool(kernels.book_spans(self._wiring, spans, first, last, end_s, window_s, now_s, per_link))


@lru_cache
def spreading(stripes: int, paths: int) -> float:
    """Share of n equal paths' joint bandwidth that a transfer of s equal stripes gets when each is hashed at random.

    The transfer ends with its slowest path, so the share is s / (n E[most stripes on one path]); the expectation is
    exact, from the number of ways to throw s balls into n bins with no bin above m:
    P(max <= m) = s! [x^s] (sum_{j <= m} x^j / j!)^n / n^s.
    """
    expected_most = sum(1 - _at_most(m, stripes, paths) for m in range(stripes))
    return stripes / (paths * expected_most)


def _at_most(most: int, stripes: int, paths: int) -> float:
    """P(no path carries more than `most` of the stripes)."""
    bin_series = np.array([1 / factorial(j) if j <= most else 0.0 for j in range(stripes + 1)])
    series = np.zeros(stripes + 1)
    series[0] = 1.0
    for _ in range(paths):
        series = np.convolve(series, bin_series)[: stripes + 1]
    return float(series[stripes]) * factorial(stripes) / float(paths) ** stripes
