"""What a snapshot of link utilisation says of pairs of instances: ALTO's cost metrics, and what their paths share.

An abstract network element (ANE, RFC 9275) here is one step up or down the tree with all its equal-cost links:
`tor0-up` is every link from tor0 to an aggregation, `pod1-down` every link from a core into pod 1. Equal-cost links add
up, and the least of a path's elements is the path's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topologies import HOPS_OF_TIER, Fabric, Level, Link, instance_ip, server_prefix

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_INSTANCES = 1024
"""Of a fabric that is served: a cost for each pair of instances or servers is in one answer."""

REFERENCE_B = 1e9
"""`routingcost` is the time that so many bytes take."""

COMPETITORS = 2.0
"""Transfers' worth of foreign traffic on a full link, as our scheduler assumes (`scheduler.view`): TCP takes a share of
such a link."""


@dataclass(frozen=True)
class AltoSnapshot:
    """Utilisation of every link, [links], 0 to 1, in the fabric's order, and its Unix time in seconds."""

    sampled_unix_s: float
    utilisation: Floats


class FabricCosts:
    """A fabric as ALTO sees it: endpoints are instances, PIDs are servers. I instances, P servers, A elements.

    addresses, pid_of: [I], IPv4 address and number of the server. pids, prefixes: [P], name and IPv4 prefix.
    elements: [A] names. ValueError for more than `MOST_INSTANCES`.
    """

    def __init__(self, fabric: Fabric) -> None:
        if len(fabric.instances) > MOST_INSTANCES:
            raise ValueError(
                f"{len(fabric.instances)} instances: a map of all pairs is served for at most {MOST_INSTANCES}"
            )
        self.fabric = fabric
        self.addresses = tuple(instance_ip(one) for one in fabric.instances)
        self.number_of = {address: number for number, address in enumerate(self.addresses)}
        places = [(one.pod, one.rack, one.server) for one in fabric.instances]
        servers = sorted(set(places))
        self.pid_of: Ints = np.array([servers.index(place) for place in places])
        self.prefixes = tuple(server_prefix(*place) for place in servers)
        steps = [_step_of(fabric, link) for link in fabric.links]
        self.elements = tuple(dict.fromkeys(steps))
        number = {name: at for at, name in enumerate(self.elements)}
        self._element_of: Ints = np.array([number[step] for step in steps])
        self._link_Bps: Floats = np.array([link.capacity_bps / 8 for link in fabric.links])
        self._links: Floats = np.bincount(self._element_of).astype(float)
        self.capacity_Bps: Floats = np.bincount(self._element_of, weights=self._link_Bps).astype(float)
        chains = [_chain(fabric, one.name) for one in fabric.instances]
        self.pids = tuple(dict.fromkeys(chain[1] for chain in chains))
        self._up: Ints = np.array([[number[f"{node}-up"] for node in chain] for chain in chains])
        self._down: Ints = np.array([[number[f"{node}-down"] for node in chain] for chain in chains])
        place = np.array(places)
        differs = place[:, None, :] != place[None, :, :]
        self.tier: Ints = np.where(differs[..., 0], 3, np.where(differs[..., 1], 2, np.where(differs[..., 2], 1, 0)))

    def left_Bps(self, utilisation: Floats) -> Floats:
        """What nobody uses of each element, [A], bytes/s."""
        unused_Bps = self._link_Bps * (1 - np.clip(utilisation, 0, 1))
        left_Bps: Floats = np.bincount(self._element_of, weights=unused_Bps).astype(float)
        return left_Bps

    def shared_Bps(self, utilisation: Floats) -> Floats:
        """What one more bulk transfer gets of each element, [A], bytes/s: what is left, or its share of a full one."""
        return np.maximum(self.left_Bps(utilisation), self.capacity_Bps / (1 + COMPETITORS))

    def one_flow_Bps(self, utilisation: Floats) -> Floats:
        """The same for a single flow, which takes one of an element's links, [A], bytes/s."""
        return self.shared_Bps(utilisation) / self._links

    def least_on_path(self, of_element: Floats) -> Floats:
        """The least of a quantity, [A], over the elements of each path, [I, I]."""
        up, down = (np.minimum.accumulate(of_element[way], axis=1) for way in (self._up, self._down))
        everyone = np.arange(len(self.addresses))
        return np.minimum(up[everyone[:, None], self.tier], down[everyone[None, :], self.tier])

    def path(self, source: int, target: int) -> list[str]:
        """The elements that traffic between two instances crosses, in order."""
        steps = int(self.tier[source, target]) + 1
        crossed = [*self._up[source, :steps], *self._down[target, :steps][::-1]]
        return [self.elements[at] for at in crossed]

    def by_pid(self, cost: Floats) -> Floats:
        """A cost between instances, [I, I], as the mean over the pairs of two servers, [P, P]; NaN without a pair."""
        member = np.zeros((len(self.pids), len(self.addresses)))
        member[self.pid_of, np.arange(len(self.addresses))] = 1
        pair = ~np.eye(len(self.addresses), dtype=bool)
        pairs: Floats = member @ pair @ member.T
        total: Floats = member @ np.where(pair, cost, 0.0) @ member.T
        found: Floats = np.divide(total, pairs, out=np.full(pairs.shape, math.nan), where=pairs > 0)
        return found


@dataclass(frozen=True)
class CostMetric:
    """A cost metric: where its values come from (RFC 9439, 3.1) and the values between instances, [I, I].

    `sampled`: it needs a snapshot. `digits`: significant ones that are worth sending.
    """

    source: str
    parameters: dict[str, Any]
    values: Callable[[FabricCosts, Floats], Floats]
    sampled: bool = True
    digits: int = 6


def _delay_us(costs: FabricCosts, _: Floats) -> Floats:
    spec = costs.fabric.spec
    return 1e6 * np.array([spec.tier_latency_s(tier) for tier in range(4)])[costs.tier]


def _routing_cost_s(costs: FabricCosts, utilisation: Floats) -> Floats:
    shared_Bps = costs.least_on_path(costs.shared_Bps(utilisation))
    return _delay_us(costs, utilisation) / 1e6 + REFERENCE_B / shared_Bps


METRICS: dict[str, CostMetric] = {
    "routingcost": CostMetric(
        "estimation",
        {"unit": "s", "is": "delay-ow, and the time of 1 GB at what one more bulk transfer gets of the path"},
        _routing_cost_s,
    ),
    "hopcount": CostMetric(
        "estimation",
        {"hop": "a link; those inside a server count"},
        lambda costs, _: np.array(HOPS_OF_TIER, dtype=float)[costs.tier],
        sampled=False,
    ),
    "delay-ow": CostMetric("nominal", {"is": "the configured latency of every link"}, _delay_us, sampled=False),
    "tput": CostMetric(
        "estimation",
        {"is": "the least over a path of what is left of one link, or a third of the link where that is more"},
        lambda costs, utilisation: costs.least_on_path(costs.one_flow_Bps(utilisation)),
    ),
    "bw-residual": CostMetric(
        "estimation",
        {"is": "the capacity: nothing is reserved; equal-cost links add up"},
        lambda costs, _: costs.least_on_path(costs.capacity_Bps),
        sampled=False,
    ),
    "bw-available": CostMetric(
        "estimation",
        {"is": "the capacity less what port counters saw; equal-cost links add up"},
        lambda costs, utilisation: costs.least_on_path(costs.left_Bps(utilisation)),
    ),
}
"""By name: `routingcost` of RFC 7285 (6.1.1.1), the others of RFC 9439: delays in microseconds, bandwidths in bytes per
second (4.1.2, 5.1.2, 5.2.2, 5.3.2)."""


def _step_of(fabric: Fabric, link: Link) -> str:
    """The element that a link belongs to: the node below it, or the pod below a core, and the direction."""
    source, target = (_height(fabric, node) for node in (link.source, link.target))
    below = link.source if source < target else link.target
    switch = fabric.switch_by_name.get(below)
    if switch is not None and switch.level == Level.AGGREGATION:
        below = f"pod{switch.pod}"
    return f"{below}-{'up' if source < target else 'down'}"


def _height(fabric: Fabric, node: str) -> int:
    switch = fabric.switch_by_name.get(node)
    return -1 if switch is None else int(switch.level)


def _chain(fabric: Fabric, instance: str) -> list[str]:
    """Who stands at the lower end of each step up: the instance, its server, its ToR, its pod."""
    chain = [instance]
    for _ in range(2):
        here = _height(fabric, chain[-1])
        chain.append(next(link.target for link in fabric.links_from[chain[-1]] if _height(fabric, link.target) > here))
    return [*chain, f"pod{fabric.switch_by_name[chain[-1]].pod}"]
