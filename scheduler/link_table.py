"""The fabric as arrays, for scoring: which links lie between a prefill instance and every decode instance.

A path has fixed links at both ends (instance, server) and, from tier 2 up, a middle that ECMP spreads over equal-cost
choices. Both parts are kept by rack, so that one decision touches O(D + racks x cores) numbers.
"""

from __future__ import annotations

from functools import lru_cache
from math import factorial

import numpy as np

from scheduler.candidates import Floats, Ints
from topologies import Fabric, Roles


class LinkTable:
    """Index arrays over the directed links of a fabric. D decode instances in ascending order of their id.

    capacity_Bps: [links]. tier[p]: [D] for each prefill instance p. latency_s, tier_Bps: [4] by tier.
    """

    def __init__(self, fabric: Fabric, roles: Roles) -> None:
        spec = fabric.spec
        self.fabric = fabric
        self.decode_id: Ints = np.array(roles.decode, dtype=np.int64)
        self.position = {decode: at for at, decode in enumerate(roles.decode)}
        self.capacity_Bps: Floats = np.array([link.capacity_bps / 8 for link in fabric.links])
        self.tier_Bps: Floats = np.array([spec.tier_rate_bps(tier) / 8 for tier in range(4)])
        self.tier_latency_s: Floats = np.array([spec.tier_latency_s(tier) for tier in range(4)])
        self.tier: dict[int, Ints] = {
            p: np.array([fabric.tier(p, d) for d in roles.decode], dtype=np.int64) for p in roles.prefill
        }
        self._shares: dict[tuple[int, int], tuple[Ints, Floats]] = {}
        self._index_links(fabric)

    def _index_links(self, fabric: Fabric) -> None:
        spec, index = fabric.spec, fabric.link_index
        racks, groups = spec.pods * spec.racks_per_pod, spec.aggregations_per_pod
        pod_of_rack = np.arange(racks) // spec.racks_per_pod
        cores = [(g, g * spec.cores_per_group + n) for g in range(groups) for n in range(spec.cores_per_group)]

        def agg(pod: int, group: int) -> str:
            return f"agg{pod * groups + group}"

        def chain(instance: int) -> tuple[str, str, str]:
            at = fabric.instances[instance]
            rack = at.pod * spec.racks_per_pod + at.rack
            return at.name, f"srv{rack * spec.servers_per_rack + at.server}", f"tor{rack}"

        self.rack_of: Ints = np.array([i.pod * spec.racks_per_pod + i.rack for i in fabric.instances], dtype=np.int64)
        self.pod_of_rack = pod_of_rack
        self.rack_of_decode = self.rack_of[self.decode_id]
        chains = [chain(i.index) for i in fabric.instances]
        self.up_instance: Ints = np.array([index[host, server] for host, server, _ in chains])
        self.up_server: Ints = np.array([index[server, tor] for _, server, tor in chains])
        self.down_server: Ints = np.array([index[chains[d][2], chains[d][1]] for d in self.decode_id])
        self.down_instance: Ints = np.array([index[chains[d][1], chains[d][0]] for d in self.decode_id])
        places = [(rack, int(pod_of_rack[rack])) for rack in range(racks)]
        self.up_rack: Ints = np.array([[index[f"tor{r}", agg(p, g)] for g in range(groups)] for r, p in places])
        self.down_rack: Ints = np.array([[index[agg(p, g), f"tor{r}"] for g in range(groups)] for r, p in places])
        pods = range(spec.pods)
        self.up_core: Ints = np.array([[index[agg(p, g), f"core{c}"] for g, c in cores] for p in pods])
        self.down_core: Ints = np.array([[index[f"core{c}", agg(p, g)] for g, c in cores] for p in pods])
        group_of_core = [g for g, _ in cores]
        self._up_rack_to_core = self.up_rack[:, group_of_core]
        self._down_rack_from_core = self.down_rack[:, group_of_core]
        self._down_core_to_rack = self.down_core[pod_of_rack]
        self._in_pod = [pod_of_rack == pod for pod in pods]
        self._far = {p: tier >= 2 for p, tier in self.tier.items()}
        self._out_of_server = {p: tier >= 1 for p, tier in self.tier.items()}

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
        limit = np.where(self._out_of_server[prefill_id], least(ends, servers), ends)
        result: Floats = np.where(self._far[prefill_id], least(limit, middle), limit)
        return result

    def shares(self, prefill_id: int, decode_id: int) -> tuple[Ints, Floats]:
        """The links one transfer may cross and the share of its bytes that each is expected to carry under ECMP."""
        key = (prefill_id, decode_id)
        if key not in self._shares:
            paths = self.fabric.paths(prefill_id, decode_id)
            links, counts = np.unique(np.concatenate([np.array(path) for path in paths]), return_counts=True)
            self._shares[key] = links, counts / len(paths)
        return self._shares[key]


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
