"""What a specification says of places, roles, links and costs, worked out once more from its plain fields.

The wording is that of docs/reference/specification.md; no line is shared with `topologies` or `scenario`, so that an
error there shows as a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.checking.violation import Floats

Ints = NDArray[np.int64]

HOPS = np.array([2, 4, 6, 8])
"""Links crossed at each tier: up to the server switch, ToR, aggregation or core, and down again."""

PREFILL_TABLE_S = {512: 0.057, 1024: 0.078, 2048: 0.137, 4096: 0.379, 8192: 0.848}
"""Prefill of Llama-2-70B on eight H100, s by prompt tokens (splitwise-sim, data/perf_model.csv)."""

BLOCK_TOKENS = 512
"""Tokens of a prefix block of generated requests and of Mooncake's traces."""


class ReferenceFabric:
    """The fat-tree of a specification's `fabric`. Instances are numbered server by server, rack by rack, pod by pod."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields
        self._slots = fields["gpus_per_server"] // fields["gpus_per_instance"]
        self._servers = fields["servers_per_rack"]
        self._racks = fields["racks_per_pod"]
        self._aggregations = fields["aggregations_per_pod"]
        self._cores = fields["cores_per_group"]
        self.instances: int = fields["pods"] * self._racks * self._servers * self._slots
        self.nvlink_bps: float = fields["nvlink_rate_bps"]
        self.nic_bps: float = fields["nic_rate_bps"]
        self.tor_uplinks_bps: float = self._servers * self.nic_bps / fields["tor_oversubscription"]
        self.core_uplinks_bps: float = self._racks * self.tor_uplinks_bps / fields["aggregation_oversubscription"]
        self.hop_latency_s: float = fields["hop_latency_s"]

    def server(self, instance: Ints) -> Ints:
        """The server of each instance, counted over the fabric."""
        return np.asarray(instance // self._slots)

    def rack(self, instance: Ints) -> Ints:
        """Its rack, counted over the fabric."""
        return np.asarray(self.server(instance) // self._servers)

    def pod(self, instance: Ints) -> Ints:
        return np.asarray(self.rack(instance) // self._racks)

    def tier(self, source: Ints, target: Ints) -> Ints:
        """Distance of pairs of instances: 0 same server, 1 same rack, 2 same pod, 3 across pods."""
        found = np.full(np.broadcast(source, target).shape, 3)
        for tier, place in ((2, self.pod), (1, self.rack), (0, self.server)):
            found[place(source) == place(target)] = tier
        return found

    def prefills(self, instance: Ints, placement: str) -> NDArray[np.bool_] | None:
        """Whether each instance prefills, by the name of a placement; None for a name that is not known here."""
        of_their_turn = {
            "segregated": self.server(instance) % self._servers % 2,
            "colocated": instance % self._slots % 2,
            "racks": self.rack(instance) % self._racks % 2,
            "first_rack": self.rack(instance),
        }
        turn = of_their_turn.get(placement)
        return None if turn is None else np.asarray(turn == 0)

    @cached_property
    def capacity_bps(self) -> dict[str, float]:
        """Capacity of every link by its name, `source>target`."""
        up: dict[tuple[str, str], float] = {}
        everyone = np.arange(self.instances)
        tor_uplink_bps = self.tor_uplinks_bps / self._aggregations
        core_uplink_bps = self.core_uplinks_bps / self._aggregations / self._cores
        places = zip(*(place(everyone).tolist() for place in (self.server, self.rack, self.pod)), strict=True)
        for instance, (server, rack, pod) in enumerate(places):
            up[f"h{instance}", f"srv{server}"] = self.nvlink_bps
            up[f"srv{server}", f"tor{rack}"] = self.nic_bps
            for group in range(self._aggregations):
                aggregation = f"agg{pod * self._aggregations + group}"
                up[f"tor{rack}", aggregation] = tor_uplink_bps
                for number in range(self._cores):
                    up[aggregation, f"core{group * self._cores + number}"] = core_uplink_bps
        return {f"{a}>{b}": rate for (low, high), rate in up.items() for a, b in ((low, high), (high, low))}

    def equal_paths(self, tier: int) -> int:
        """How many shortest paths two instances of a tier have."""
        return (1, 1, self._aggregations, self._aggregations * self._cores)[tier]

    def path(self, source: int, target: int, number: int) -> list[str]:
        """The links of one of the shortest paths, in order: of tier 2 by aggregation, of tier 3 by core."""
        ends = np.array([source, target])
        (server_a, server_b), (rack_a, rack_b) = self.server(ends).tolist(), self.rack(ends).tolist()
        pod_a, pod_b = self.pod(ends).tolist()
        tier = int(self.tier(ends[:1], ends[1:])[0])
        group = number // self._cores if tier == 3 else number
        top = [f"agg{pod_a * self._aggregations + group}"]
        if tier == 3:
            top += [f"core{number}", f"agg{pod_b * self._aggregations + group}"]
        inside = [f"srv{server_a}", f"tor{rack_a}", *top, f"tor{rack_b}", f"srv{server_b}"]
        if tier == 0:
            inside = [f"srv{server_a}"]
        elif tier == 1:
            inside = [f"srv{server_a}", f"tor{rack_a}", f"srv{server_b}"]
        nodes = [f"h{source}", *inside, f"h{target}"]
        return [f"{a}>{b}" for a, b in pairwise(nodes)]

    def most_bps(self, tier: Ints, stripes: int) -> Floats:
        """The most that an otherwise idle fabric gives one transfer of so many connections, bit/s, by its tier."""
        tor_bps = min(self.tor_uplinks_bps, stripes * self.tor_uplinks_bps / self._aggregations)
        core_paths = self._aggregations * self._cores
        core_bps = min(self.core_uplinks_bps, stripes * self.core_uplinks_bps / core_paths)
        rates = np.minimum.accumulate([self.nvlink_bps, self.nic_bps, tor_bps, core_bps])
        return np.asarray(rates[tier], dtype=float)


def prefill_s(model: Mapping[str, Any], gpus: int, tokens: Floats) -> Floats:
    """Seconds that a prompt of so many tokens takes on an instance of so many GPUs."""
    if model["prefill"] == "table":
        if given := model.get("prefill_table_s"):
            return interpolated([(prompt, seconds) for prompt, seconds in given], tokens)
        return interpolated(list(PREFILL_TABLE_S.items()), tokens) * 8 / gpus
    if model["prefill"] == "weights":
        return _by_weights_s(model, gpus, tokens)
    layers, hidden = model["layers"], model["hidden"]
    flop = layers * (4 * tokens**2 * hidden + 22 * tokens * hidden**2)
    return np.asarray(flop / (gpus * model["gpu_flops"] * model["prefill_utilisation"]), dtype=float)


def _by_weights_s(model: Mapping[str, Any], gpus: int, tokens: Floats) -> Floats:
    """Twice the weights that a token passes, and causal attention, over the effective peak."""
    of = model["shape"]
    wide = of["heads"] * of["head_dim"]
    passed = of["hidden"] * (2 * wide + 2 * of["kv_heads"] * of["head_dim"])
    passed += of["experts_active"] * 3 * of["hidden"] * of["intermediate"]
    flop = 2 * of["layers"] * (passed * tokens + wide * tokens**2)
    return np.asarray(flop / (gpus * model["gpu_flops"] * model["prefill_utilisation"]), dtype=float)


def step_s(model: Mapping[str, Any], running: Floats) -> Floats:
    """Seconds of a decode step with so many running requests."""
    return interpolated([(batch, seconds) for batch, seconds in model["step_table_s"]], running)


def interpolated(table: list[tuple[float, float]], at: Floats) -> Floats:
    """Linear between the points of a table with rising x; before them its first value, beyond them its last slope."""
    x, y = np.array(table, dtype=float).T
    inside = np.interp(at, x, y)
    if len(x) == 1:
        return np.asarray(inside)
    beyond = y[-1] + (at - x[-1]) * (y[-1] - y[-2]) / (x[-1] - x[-2])
    return np.asarray(np.where(at > x[-1], beyond, inside))
