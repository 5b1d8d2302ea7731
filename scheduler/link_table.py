"""The fabric as arrays, for scoring: which links lie between a prefill instance and every decode instance.

A path has fixed links at both ends (instance, server) and, from tier 2 up, a middle that ECMP spreads over equal-cost
choices. Both parts are stored by rack, so that one decision touches O(D + racks x cores) numbers.
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
from scheduler.wiring import wire
from topologies import Fabric, Roles

Element = TypeVar("Element", bound=np.generic)


class ByPrefill(Generic[Element]):
    """One array [D] a prefill instance, made when it is first asked for: a large fabric has more than a run uses."""

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

    capacity_Bps: [links]. tier[p], latency_s[p]: [D] for each prefill instance p. tier_Bps: [4] by tier.
    """

    def __init__(self, fabric: Fabric, roles: Roles) -> None:
        spec = fabric.spec
        self.fabric = fabric
        self._wiring = wiring = wire(fabric, roles)
        self.decode_id = wiring.decode_id
        self.position = {decode: at for at, decode in enumerate(roles.decode)}
        self.capacity_Bps = wiring.capacity_Bps
        self.tier_Bps: Floats = np.array([spec.tier_rate_bps(tier) / 8 for tier in range(4)])
        self.tier_latency_s: Floats = np.array([spec.tier_latency_s(tier) for tier in range(4)])
        self.tier = ByPrefill(self._find_tier)
        self.latency_s = ByPrefill(lambda prefill_id: self.tier_latency_s[self.tier[prefill_id]])
        self._place = np.array([(i.pod, i.rack, i.server) for i in fabric.instances])
        pods, racks = spec.pods, spec.pods * spec.racks_per_pod
        self.pod_of_rack: Ints = np.arange(racks) // spec.racks_per_pod
        self.rack_of: Ints = wiring.instances["pod"] * spec.racks_per_pod + wiring.instances["rack"]
        self.rack_of_decode = self.rack_of[self.decode_id]
        self.up_instance: Ints = wiring.instances["up_instance"].copy()
        self.up_server: Ints = wiring.instances["up_server"].copy()
        self._into_server: Ints = wiring.instances["down_server"].copy()
        self._into_instance: Ints = wiring.instances["down_instance"].copy()
        self.down_server = self._into_server[self.decode_id]
        self.down_instance = self._into_instance[self.decode_id]
        self.up_rack: Ints = wiring.rack_cables["up"].reshape(racks, -1)
        self.down_rack: Ints = wiring.rack_cables["down"].reshape(racks, -1)
        self.up_core: Ints = wiring.core_cables["up"].reshape(pods, -1)
        self.down_core: Ints = wiring.core_cables["down"].reshape(pods, -1)
        group_of_core = np.arange(self.up_core.shape[1]) // spec.cores_per_group
        self._up_rack_to_core = self.up_rack[:, group_of_core]
        self._down_rack_from_core = self.down_rack[:, group_of_core]
        self._down_core_to_rack = self.down_core[self.pod_of_rack]
        self._in_pod = [self.pod_of_rack == pod for pod in range(pods)]
        ends = [self.up_instance, self.down_instance], [self.up_server, self.down_server]
        middles = [self.up_rack, self.down_rack], [self.up_core, self.down_core]
        self._links_of_level = [np.unique(np.concatenate([x.ravel() for x in level])) for level in (*ends, *middles)]

    def _find_tier(self, prefill_id: int) -> Ints:
        """The first of pod, rack and server that differs counts 3, 2 or 1; the same server is tier 0."""
        differs = self._place[self.decode_id] != self._place[prefill_id]
        tier: Ints = np.where(differs[:, 0], 3, np.where(differs[:, 1], 2, np.where(differs[:, 2], 1, 0)))
        return tier

    def bottleneck(self, per_link: Floats, prefill_id: int, stripes: int) -> Floats:
        """What `stripes` connections can get from one prefill to every decode instance, shape [D].

        `per_link` is the bandwidth that each link has for a new transfer, shape [links]. At the ends all stripes share
        one link. In the middle a path carries the least of its links and the paths add up, less what is lost when
        a hash puts several stripes on one path: `spreading`, an expectation, not the hash of one particular flow. The
        paths across pods that share a ToR's link to one aggregation do not add up on it: they carry no more than the
        same two ToRs could exchange over the aggregations alone.
        """
        rack = int(self.rack_of[prefill_id])
        pod = int(self.pod_of_rack[rack])
        least, on = np.minimum, per_link.take
        within = least(on(self.up_rack[rack]), on(self.down_rack))
        up = least(on(self._up_rack_to_core[rack]), on(self.up_core[pod]))
        down = least(on(self._down_core_to_rack), on(self._down_rack_from_core))
        across = least(up, down)
        within_Bps = np.add.reduce(within, axis=1) * spreading(stripes, within.shape[1])
        across_Bps = least(np.add.reduce(across, axis=1) * spreading(stripes, across.shape[1]), within_Bps)
        middle = np.where(self._in_pod[pod], within_Bps, across_Bps).take(self.rack_of_decode)
        ends = least(per_link[self.up_instance[prefill_id]], on(self.down_instance))
        servers = least(per_link[self.up_server[prefill_id]], on(self.down_server))
        limit = np.where(self.tier[prefill_id] >= 1, least(ends, servers), ends)
        result: Floats = np.where(self.tier[prefill_id] >= 2, least(limit, middle), limit)
        return result

    def available(self, prefill_id: int, stripes: int, others_Bps: Floats, count: Floats, competitors: float) -> Floats:
        """What one more transfer gets to every decode instance, shape [D]: the compiled form of `bottleneck` over
        max((capacity - others) / (1 + count), capacity / (1 + count + competitors)).
        """
        result: Floats = np.empty(len(self.decode_id))
        within, across = spreading(stripes, self.up_rack.shape[1]), spreading(stripes, self.up_core.shape[1])
        kernels.available(self._wiring, prefill_id, others_Bps, count, competitors, within, across, result)
        return result

    def tier_utilisation(self, used_Bps: Floats) -> Floats:
        """One utilisation a tier, shape [4]: links of a level by their mean, a tier by its busiest level.

        Level 0 joins instances to their server, 1 servers to their ToR, 2 ToRs to aggregations, 3 those to cores; a
        path of tier t crosses levels 0 to t.
        """
        mean = np.array(
            [np.mean(used_Bps[links]) / np.mean(self.capacity_Bps[links]) for links in self._links_of_level]
        )
        busiest: Floats = np.maximum.accumulate(mean)
        return busiest

    def shares(self, prefill_id: int, decode_id: int) -> tuple[Ints, Floats]:
        """The links one transfer may cross and the share of its bytes that each is expected to carry under ECMP."""
        tier = self.fabric.tier(prefill_id, decode_id)
        ends = [self.up_instance[prefill_id], self._into_instance[decode_id]]
        if tier >= 1:
            ends += [self.up_server[prefill_id], self._into_server[decode_id]]
        from_rack, to_rack = int(self.rack_of[prefill_id]), int(self.rack_of[decode_id])
        middle = self._middle_links(from_rack, to_rack) if tier >= 2 else []
        links = np.concatenate([ends, *middle]).astype(np.int64)
        share = np.concatenate([np.ones(len(ends)), *(np.full(len(equal), 1 / len(equal)) for equal in middle)])
        return links, share

    def book(self, per_link: Floats, amount: float, prefill_id: int, decode_id: int) -> None:
        """Add `amount` times the `shares` of one transfer to `per_link`, shape [links]: the compiled form."""
        kernels.book(self._wiring, prefill_id, decode_id, amount, per_link)

    def _middle_links(self, from_rack: int, to_rack: int) -> list[Ints]:
        """The links between two racks in groups of equal share: each group carries all bytes once."""
        racks = [self.up_rack[from_rack], self.down_rack[to_rack]]
        pods = self.pod_of_rack[from_rack], self.pod_of_rack[to_rack]
        return racks if pods[0] == pods[1] else [*racks, self.up_core[pods[0]], self.down_core[pods[1]]]


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
