"""The loops of a decision that are worth compiling: bandwidth left, waits, the best instance, and its booking.

Each is compared by `tests/unit/scheduler/test_kernels.py` with a readable form in numpy:
`View.available_by_definition`, `DecodeLoads.wait_by_definition`, `LinkTable.shares`, and a sort. All are O(D), the
first plus racks x cores.
"""

from __future__ import annotations

from scheduler.arrays import Bools, Floats, Ints
from scheduler.compilation import compiled
from scheduler.wiring import Wiring


@compiled
def best_index(cost: Floats, feasible: Bools, tier: Ints, waiting: Ints, running: Ints, tolerance: float) -> int:
    """The feasible index of least cost; costs within `tolerance` of it tie, ties go to the lower (tier, load, index).

    -1 when nothing is feasible or every cost is NaN.
    """
    lowest = float("inf")
    for at in range(len(cost)):
        if feasible[at] and cost[at] < lowest:
            lowest = cost[at]
    best = -1
    for at in range(len(cost)):
        if not feasible[at] or not cost[at] <= lowest + tolerance:
            continue
        if best >= 0:
            load, best_load = waiting[at] + running[at], waiting[best] + running[best]
            if tier[at] > tier[best] or (tier[at] == tier[best] and load >= best_load):
                continue
        best = at
    return best


@compiled
def _left(link: int, capacity: Floats, others: Floats, count: Floats, competitors: float) -> float:
    """Bandwidth of one link for one more transfer: max((C - others) / (1 + n), C / (1 + n + b))."""
    sharing = 1 + count[link]
    left: float = max((capacity[link] - others[link]) / sharing, capacity[link] / (sharing + competitors))
    return left


@compiled
def available(
    wiring: Wiring,
    source: int,
    tier: Ints,
    others: Floats,
    count: Floats,
    competitors: float,
    spread_within: float,
    spread_across: float,
    result: Floats,
) -> None:
    """Fill `result` [D], bytes/s, with what a new transfer from the instance `source` gets to each decode instance.

    tier: [D] from the source. others, count: [links], bytes/s of other traffic and our own transfers in flight. At the
    ends all stripes share one link; from tier 2 up the equal-cost paths add up, times `spread_within` a pod or
    `spread_across` pods for what hashing loses.
    """
    capacity = wiring.capacity_Bps
    cores, racks = wiring.cores, wiring.racks
    ends = wiring.instances[source]
    home, home_pod = ends.rack, racks[ends.rack].pod
    groups = wiring.rack_cables.shape[1]
    for core in range(len(cores)):
        cores[core].up_Bps = min(
            _left(wiring.rack_cables[home, cores[core].group].up, capacity, others, count, competitors),
            _left(wiring.core_cables[home_pod, core].up, capacity, others, count, competitors),
        )
    pod = -1
    for rack in range(len(racks)):
        if racks[rack].pod != pod:
            pod = racks[rack].pod
            for core in range(len(cores)):
                down = _left(wiring.core_cables[pod, core].down, capacity, others, count, competitors)
                cores[core].through_Bps = min(cores[core].up_Bps, down)
        within, across, core = 0.0, 0.0, 0
        for group in range(groups):
            down = _left(wiring.rack_cables[rack, group].down, capacity, others, count, competitors)
            within += min(_left(wiring.rack_cables[home, group].up, capacity, others, count, competitors), down)
            while core < len(cores) and cores[core].group == group:
                across += min(cores[core].through_Bps, down)
                core += 1
        racks[rack].middle_Bps = within * spread_within
        if pod != home_pod:
            racks[rack].middle_Bps = min(across * spread_across, racks[rack].middle_Bps)
    from_instance = _left(ends.up_instance, capacity, others, count, competitors)
    from_server = _left(ends.up_server, capacity, others, count, competitors)
    for at in range(len(result)):
        target = wiring.instances[wiring.decode_id[at]]
        least = min(from_instance, _left(target.down_instance, capacity, others, count, competitors))
        if tier[at] >= 1:
            least = min(least, from_server, _left(target.down_server, capacity, others, count, competitors))
        if tier[at] >= 2:
            least = min(least, racks[target.rack].middle_Bps)
        result[at] = least


@compiled
def admission_wait(
    waiting: Ints,
    running: Ints,
    reserved_tokens: Ints,
    first_step_s: Floats,
    slots: int,
    room_tokens: int,
    mean_output: float,
    result: Floats,
) -> None:
    """Fill `result` [D] with the expected wait for a slot and memory: see `DecodeLoads.admission_wait_s`."""
    for at in range(len(result)):
        outstanding = waiting[at] + running[at]
        by_slots = outstanding + 1 - slots
        mean_tokens = max(reserved_tokens[at] / max(outstanding, 1), 1.0)
        must_leave = max((reserved_tokens[at] - room_tokens) / mean_tokens, by_slots, 0.0)
        result[at] = must_leave * (mean_output * first_step_s[at] / max(running[at], 1))


@compiled
def book(wiring: Wiring, source: int, target: int, tier: int, amount: float, per_link: Floats) -> None:
    """Add `amount` to every link of `per_link` [links] by the share of a transfer's bytes expected there under ECMP.

    source, target: instances, `tier` apart.
    """
    ends, other_ends = wiring.instances[source], wiring.instances[target]
    per_link[ends.up_instance] += amount
    per_link[other_ends.down_instance] += amount
    if tier >= 1:
        per_link[ends.up_server] += amount
        per_link[other_ends.down_server] += amount
    if tier >= 2:
        groups = wiring.rack_cables.shape[1]
        for group in range(groups):
            per_link[wiring.rack_cables[ends.rack, group].up] += amount / groups
            per_link[wiring.rack_cables[other_ends.rack, group].down] += amount / groups
    if tier >= 3:
        pod, other_pod = wiring.racks[ends.rack].pod, wiring.racks[other_ends.rack].pod
        cores = wiring.core_cables.shape[1]
        for core in range(cores):
            per_link[wiring.core_cables[pod, core].up] += amount / cores
            per_link[wiring.core_cables[other_pod, core].down] += amount / cores
