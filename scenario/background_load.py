"""The load that background traffic offers to the links, beside what the counters measured. Pure arithmetic on arrays.

The offered load is a mean: every flow is split evenly over its equal-cost paths, a paced flow sends its rate and greedy
connections share what is left max-min fairly. A hash that splits unevenly, or KV that takes its share, shows up as the
difference between offered and measured load. What greedy connections can send depends on their paths: once these are
known, the offered load is also computed over them, each connection on its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topologies import Fabric

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Paths = Mapping[int, Sequence[Sequence[int]]]
"""By flow, the link indices of the path of each of its connections."""

FULL = 1e-9
"""A link or a flow with less than this part of its rate left has none."""


@dataclass(frozen=True, slots=True)
class BackgroundFlow:
    """`connections` connections from one instance to another between two instants of the run.

    start_s, stop_s: seconds of the real system from t = 0. source, target: indices of instances. rate_bps: what all
    its connections together put on the wire, headers included, bit/s of the real system; None: greedy. protocol: `tcp`
    or `udp`; a `udp` flow needs a rate.
    """

    flow_id: int
    start_s: float
    stop_s: float
    source: int
    target: int
    connections: int = 1
    rate_bps: float | None = None
    protocol: str = "tcp"


def link_tiers(fabric: Fabric) -> Ints:
    """The least tier whose traffic crosses each link, [links]: 0 inside a server, 1 server-ToR, 2 ToR-aggregation, 3
    aggregation-core."""
    level = {switch.name: int(switch.level) for switch in fabric.switches}
    return np.array([max(level.get(link.source, 0), level.get(link.target, 0)) for link in fabric.links])


def path_shares(fabric: Fabric, source: int, target: int) -> Floats:
    """The part of the bytes from one instance to another that each link is expected to carry, [links]."""
    paths = fabric.paths(source, target)
    shares = np.zeros(len(fabric.links))
    for path in paths:
        shares[list(path)] += 1 / len(paths)
    return shares


def capacities_bps(fabric: Fabric) -> Floats:
    """Capacity of every link, [links], bit/s."""
    return np.array([link.capacity_bps for link in fabric.links])


@dataclass(frozen=True, slots=True)
class _Offer:
    """What is offered: `shares` of its bytes on every link, [links, parts], `weight` (connections) and `cap` (bit/s) of
    each part, [parts]."""

    shares: Floats
    weight: Floats
    cap: Floats

    def rates_bps(self, capacity: Floats) -> Floats:
        """Progressive filling (Bertsekas and Gallager, Data Networks, 6.5.2): all connections grow alike until their
        part has its rate or a link of theirs is full."""
        rate, growing = np.zeros(len(self.weight)), np.ones(len(self.weight), dtype=bool)
        while growing.any():
            growth = self.shares[:, growing] @ self.weight[growing]
            left = np.maximum(capacity - self.shares @ rate, 0)
            until_full = np.min(left[growth > 0] / growth[growth > 0])
            until_capped = np.min((self.cap[growing] - rate[growing]) / self.weight[growing])
            rate[growing] += min(until_full, until_capped) * self.weight[growing]
            full = capacity - self.shares @ rate <= FULL * capacity
            growing &= (rate < self.cap * (1 - FULL)) & ~(self.shares[full] > 0).any(axis=0)
        return rate


def _offer(flows: Sequence[BackgroundFlow], fabric: Fabric, taken: Paths) -> _Offer:
    """A part a flow, spread over its paths; a part a connection where the paths that were taken are known."""
    shares, weight, cap = [], [], []
    for flow in flows:
        cap_bps = np.inf if flow.rate_bps is None else flow.rate_bps
        paths = taken.get(flow.flow_id)
        if not paths:
            shares.append(path_shares(fabric, flow.source, flow.target))
            weight.append(float(flow.connections))
            cap.append(cap_bps)
            continue
        for path in paths:
            share = np.zeros(len(fabric.links))
            share[list(path)] = 1.0
            shares.append(share)
            weight.append(1.0)
            cap.append(cap_bps / len(paths))
    return _Offer(np.array(shares).T, np.array(weight), np.array(cap))


def offered_utilisation(
    plan: Sequence[BackgroundFlow], fabric: Fabric, from_s: float, to_s: float, taken: Paths | None = None
) -> Floats:
    """Mean utilisation that a plan offers to every link between two instants of the run, [links], 0-1.

    from_s, to_s: seconds from t = 0, `from_s` < `to_s`. taken: the links of the path of every connection, by flow; a
    flow that is not in it is spread over its paths.
    """
    edges = {from_s, to_s}
    for flow in plan:
        edges.update(edge for edge in (flow.start_s, flow.stop_s) if from_s < edge < to_s)
    marks = sorted(edges)
    capacity = capacities_bps(fabric)
    carried_bits = np.zeros(len(fabric.links))
    for begin_s, end_s in pairwise(marks):
        active = [flow for flow in plan if flow.start_s <= begin_s and flow.stop_s >= end_s]
        if active:
            offer = _offer(active, fabric, taken or {})
            carried_bits += offer.shares @ offer.rates_bps(capacity) * (end_s - begin_s)
    offered: Floats = carried_bits / (to_s - from_s) / capacity
    return offered


def measured_utilisation(rows: Iterable[Mapping[str, Any]], fabric: Fabric) -> tuple[float, float, Floats]:
    """The first and the last instant of a log of the links, seconds, and the mean utilisation between them, [links].

    rows: those of `links.parquet` (time_s, link, bytes), in order of time. The utilisation is the increase of the byte
    counters over what the link could have carried. ValueError when the rows span no time.
    """
    first: dict[str, tuple[float, float]] = {}
    last: dict[str, tuple[float, float]] = {}
    for row in rows:
        reading = float(row["time_s"]), float(row["bytes"])
        first.setdefault(row["link"], reading)
        last[row["link"]] = reading
    names = [link.name for link in fabric.links]
    if not first or any(name not in first or last[name][0] <= first[name][0] for name in names):
        raise ValueError("the log of the links spans no time")
    moved = np.array([8 * (last[name][1] - first[name][1]) / (last[name][0] - first[name][0]) for name in names])
    return min(at for at, _ in first.values()), max(at for at, _ in last.values()), moved / capacities_bps(fabric)


def congestion_evidence(
    kind: str,
    plan: Sequence[BackgroundFlow],
    fabric: Fabric,
    rows: Iterable[Mapping[str, Any]],
    transfers: Iterable[tuple[float, int, float]],
    taken: Paths | None = None,
) -> dict[str, Any]:
    """Offered load beside measured load: `tiers` has an entry for each tier of links, `busiest` the link loaded most.

    All loads are mean utilisations, 0-1. `offered` spreads the plan evenly over equal-cost paths; `offered_on_paths`,
    present where the paths `taken` are known, puts it on these, and is what greedy connections can be held to.
    transfers: start (s), tier and bytes of each KV transfer; what they put on a tier's links is `kv`, subtracted from
    what the counters say (`total`) to give `measured`. Empty when the log of the links spans no time.
    """
    try:
        from_s, to_s, total = measured_utilisation(rows, fabric)
    except ValueError:
        return {}
    offered = {"offered": offered_utilisation(plan, fabric, from_s, to_s)}
    if taken is not None:
        offered["offered_on_paths"] = offered_utilisation(plan, fabric, from_s, to_s, taken)
    tier_of, capacity = link_tiers(fabric), capacities_bps(fabric)
    moved = [(tier, kv_bytes) for start_s, tier, kv_bytes in transfers if from_s <= start_s < to_s]
    tiers = {}
    for tier in range(4):
        of = tier_of == tier
        capacity_bits = capacity[of].sum() * (to_s - from_s)
        # A transfer of tier t crosses two links of every tier up to its own: one on the way up and one down.
        kv = sum(2 * 8 * kv_bytes for at, kv_bytes in moved if at >= tier) / capacity_bits
        mean_total = float(np.average(total[of], weights=capacity[of]))
        tiers[str(tier)] = {
            **{key: round(float(np.average(of_link[of], weights=capacity[of])), 5) for key, of_link in offered.items()},
            "measured": round(mean_total - float(kv), 5),
            "kv": round(float(kv), 5),
            "total": round(mean_total, 5),
        }
    busiest = int(next(reversed(offered.values())).argmax())
    return {
        "kind": kind,
        "window_s": [round(from_s, 3), round(to_s, 3)],
        "tiers": tiers,
        "busiest": {
            "link": fabric.links[busiest].name,
            **{key: round(float(of_link[busiest]), 5) for key, of_link in offered.items()},
            "total": round(float(total[busiest]), 5),
        },
    }
