"""The loops of a decision that are worth compiling: bandwidth left, waits, the best instance, and its booking.

Each is held equal by `tests/unit/scheduler/test_kernels.py` to a readable form in numpy:
`View.available_by_definition`, `DecodeLoads.wait_by_definition`, `LinkTable.shares`, and a sort. All are O(D), the
first plus racks x cores.
"""

from __future__ import annotations

from scheduler.arrays import Bools, Floats, Ints
from scheduler.compilation import compiled


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
    capacity: Floats,
    others: Floats,
    count: Floats,
    competitors: float,
    up_instance: int,
    up_server: int,
    rack: int,
    up_rack: Ints,
    down_rack: Ints,
    up_core: Ints,
    down_core: Ints,
    group_of_core: Ints,
    pod_of_rack: Ints,
    rack_of_decode: Ints,
    down_server: Ints,
    down_instance: Ints,
    tier: Ints,
    spread_within: float,
    spread_across: float,
    middle: Floats,
    over_core: Floats,
    result: Floats,
) -> None:
    """Fill `result` [D] with what a new transfer from one prefill instance gets to each.

    At the ends all stripes share one link; from tier 2 up the equal-cost paths add up, less what hashing loses. Racks
    come pod by pod. Scratch: `middle` [racks], `over_core` [2, cores]: to each core, and on to the pod at hand.
    """
    groups, cores = up_rack.shape[1], up_core.shape[1]
    for core in range(cores):
        over_core[0, core] = min(
            _left(up_rack[rack, group_of_core[core]], capacity, others, count, competitors),
            _left(up_core[pod_of_rack[rack], core], capacity, others, count, competitors),
        )
    pod = -1
    for target in range(len(middle)):
        if pod_of_rack[target] != pod:
            pod = pod_of_rack[target]
            for core in range(cores):
                down = _left(down_core[pod, core], capacity, others, count, competitors)
                over_core[1, core] = min(over_core[0, core], down)
        within, across, core = 0.0, 0.0, 0
        for group in range(groups):
            down = _left(down_rack[target, group], capacity, others, count, competitors)
            within += min(_left(up_rack[rack, group], capacity, others, count, competitors), down)
            while core < cores and group_of_core[core] == group:
                across += min(over_core[1, core], down)
                core += 1
        middle[target] = within * spread_within
        if pod != pod_of_rack[rack]:
            middle[target] = min(across * spread_across, middle[target])
    from_instance = _left(up_instance, capacity, others, count, competitors)
    from_server = _left(up_server, capacity, others, count, competitors)
    for at in range(len(result)):
        least = min(from_instance, _left(down_instance[at], capacity, others, count, competitors))
        if tier[at] >= 1:
            least = min(least, from_server, _left(down_server[at], capacity, others, count, competitors))
        if tier[at] >= 2:
            least = min(least, middle[rack_of_decode[at]])
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
def book(
    count: Floats,
    rate: Floats,
    transfers: float,
    rate_Bps: float,
    tier: int,
    up_instance: int,
    down_instance: int,
    up_server: int,
    down_server: int,
    rack: int,
    target: int,
    up_rack: Ints,
    down_rack: Ints,
    up_core: Ints,
    down_core: Ints,
    pod_of_rack: Ints,
) -> None:
    """Add one transfer (`transfers` 1, or -1 to take it away) to every link by its expected share of the bytes."""
    rate_Bps *= transfers
    count[up_instance] += transfers
    rate[up_instance] += rate_Bps
    count[down_instance] += transfers
    rate[down_instance] += rate_Bps
    if tier >= 1:
        count[up_server] += transfers
        rate[up_server] += rate_Bps
        count[down_server] += transfers
        rate[down_server] += rate_Bps
    if tier >= 2:
        groups = up_rack.shape[1]
        for group in range(groups):
            for link in (up_rack[rack, group], down_rack[target, group]):
                count[link] += transfers / groups
                rate[link] += rate_Bps / groups
    if tier >= 3:
        cores = up_core.shape[1]
        for core in range(cores):
            for link in (up_core[pod_of_rack[rack], core], down_core[pod_of_rack[target], core]):
                count[link] += transfers / cores
                rate[link] += rate_Bps / cores
