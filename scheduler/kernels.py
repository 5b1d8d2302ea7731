"""The loops of a decision that are worth compiling: bandwidth left, waits, the best instances, and a booking.

`tests/unit/scheduler/test_kernels.py` compares each with its definition. All are O(D), `available` plus racks x cores.
"""

from __future__ import annotations

import numpy as np

from scheduler.arrays import Bools, Floats, Ints
from scheduler.compilation import compiled
from scheduler.wiring import Records, Wiring


@compiled
def best_indices(cost: Floats, feasible: Bools, tier: Ints, load: Ints, tolerance: float, result: Ints) -> int:
    """Fill `result` [D] with the feasible indices of least (cost, tier, load), ascending; return how many there are.

    Costs within `tolerance` of the least tie. 0 when nothing is feasible or every cost is NaN.
    """
    lowest = float("inf")
    for at in range(len(cost)):
        if feasible[at] and cost[at] < lowest:
            lowest = cost[at]
    count = 0
    for at in range(len(cost)):
        if not feasible[at] or not cost[at] <= lowest + tolerance:
            continue
        if count > 0:
            best = result[0]
            if tier[at] > tier[best] or (tier[at] == tier[best] and load[at] > load[best]):
                continue
            if tier[at] < tier[best] or load[at] < load[best]:
                count = 0
        result[count] = at
        count += 1
    return count


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
    others: Floats,
    count: Floats,
    competitors: float,
    spread_within: float,
    spread_across: float,
    result: Floats,
) -> None:
    """Fill `result` [D], bytes/s, with what a new transfer from the instance `source` gets to each decode instance.

    others, count: [links], bytes/s of other traffic and our own transfers in flight. At the ends all stripes share one
    link; from tier 2 up the equal-cost paths add up, times `spread_within` a pod or `spread_across` pods for what
    hashing loses.
    """
    capacity, rack_cables, core_cables = wiring.capacity_Bps, wiring.rack_cables, wiring.core_cables
    pods, racks, groups = rack_cables.shape
    cores = core_cables.shape[2]
    ends = wiring.instances[source]
    from_rack = rack_cables[ends.pod, ends.rack]
    for group in range(groups):
        from_rack_Bps = _left(from_rack[group].up, capacity, others, count, competitors)
        from_rack[group].way_Bps = from_rack_Bps
        for core in range(cores):
            up_Bps = _left(core_cables[ends.pod, group, core].up, capacity, others, count, competitors)
            core_cables[ends.pod, group, core].way_Bps = min(from_rack_Bps, up_Bps)
    for pod in range(pods):
        if pod != ends.pod:
            for group in range(groups):
                for core in range(cores):
                    down_Bps = _left(core_cables[pod, group, core].down, capacity, others, count, competitors)
                    up_Bps = core_cables[ends.pod, group, core].way_Bps
                    core_cables[pod, group, core].way_Bps = min(up_Bps, down_Bps)
        for rack in range(racks):
            if pod == ends.pod and rack == ends.rack:
                continue
            within_Bps, across_Bps = 0.0, 0.0
            for group in range(groups):
                down_Bps = _left(rack_cables[pod, rack, group].down, capacity, others, count, competitors)
                within_Bps += min(from_rack[group].way_Bps, down_Bps)
                for core in range(cores):
                    across_Bps += min(core_cables[pod, group, core].way_Bps, down_Bps)
            middle_Bps = within_Bps * spread_within
            if pod != ends.pod:
                middle_Bps = min(across_Bps * spread_across, middle_Bps)
            rack_cables[pod, rack, 0].way_Bps = middle_Bps
    from_instance_Bps = _left(ends.up_instance, capacity, others, count, competitors)
    from_server_Bps = _left(ends.up_server, capacity, others, count, competitors)
    into_server, into_server_Bps = -1, 0.0
    for at in range(len(result)):
        target = wiring.instances[wiring.decode_id[at]]
        least_Bps = min(from_instance_Bps, _left(target.down_instance, capacity, others, count, competitors))
        same_rack = target.pod == ends.pod and target.rack == ends.rack
        if not same_rack or target.server != ends.server:
            if target.down_server != into_server:  # instances of one server follow each other
                into_server = target.down_server
                into_server_Bps = _left(into_server, capacity, others, count, competitors)
            least_Bps = min(least_Bps, from_server_Bps, into_server_Bps)
        if not same_rack:
            least_Bps = min(least_Bps, rack_cables[target.pod, target.rack, 0].way_Bps)
        result[at] = least_Bps


@compiled
def admission_wait(
    waiting: Ints,
    running: Ints,
    reserved_tokens: Ints,
    first_step_s: Floats,
    slots: int,
    free_tokens: int,
    mean_output: float,
    result: Floats,
) -> None:
    """Fill `result` [D] with the expected wait for a slot and memory: see `DecodeLoads.admission_wait_s`."""
    for at in range(len(result)):
        outstanding = waiting[at] + running[at]
        by_slots = outstanding + 1 - slots
        if by_slots <= 0 and reserved_tokens[at] <= free_tokens:
            result[at] = 0.0  # nobody must leave
            continue
        mean_tokens = max(reserved_tokens[at] / max(outstanding, 1), 1.0)
        must_leave = max((reserved_tokens[at] - free_tokens) / mean_tokens, by_slots, 0.0)
        result[at] = must_leave * (mean_output * first_step_s[at] / max(running[at], 1))


@compiled
def book(wiring: Wiring, source: int, target: int, amount: float, per_link: Floats) -> None:
    """Add `amount` to `per_link` [links] by the share of a transfer's bytes that ECMP is expected to send over each."""
    start, end = wiring.instances[source], wiring.instances[target]
    per_link[start.up_instance] += amount
    per_link[end.down_instance] += amount
    same_rack = start.pod == end.pod and start.rack == end.rack
    if same_rack and start.server == end.server:
        return
    per_link[start.up_server] += amount
    per_link[end.down_server] += amount
    if same_rack:
        return
    groups, cores = wiring.core_cables.shape[1:]
    for group in range(groups):
        per_link[wiring.rack_cables[start.pod, start.rack, group].up] += amount / groups
        per_link[wiring.rack_cables[end.pod, end.rack, group].down] += amount / groups
    if start.pod == end.pod:
        return
    for group in range(groups):
        for core in range(cores):
            per_link[wiring.core_cables[start.pod, group, core].up] += amount / (groups * cores)
            per_link[wiring.core_cables[end.pod, group, core].down] += amount / (groups * cores)


@compiled
def start_span(
    wiring: Wiring,
    spans: Records,
    row: int,
    prefill_id: int,
    decode_id: int,
    rate_Bps: float,
    now_s: float,
    kv_bytes: float,
    count: Floats,
) -> None:
    """Enter a transfer that starts in a row of `spans`, and count it on its links, `count` [links]."""
    span = spans[row]
    span.prefill_id, span.decode_id = prefill_id, decode_id
    span.rate_Bps, span.started_s, span.ended_s, span.kv_bytes = rate_Bps, now_s, np.inf, kv_bytes
    book(wiring, prefill_id, decode_id, 1.0, count)


@compiled
def stop_span(
    wiring: Wiring,
    under_way: Records,
    row: int,
    ended: Records,
    last: int,
    kv_bytes: float,
    now_s: float,
    count: Floats,
) -> int:
    """Leave a gap in `under_way`, enter the transfer in `ended` if it took any time; return the new end of `ended`."""
    span = under_way[row]
    book(wiring, span.prefill_id, span.decode_id, -1.0, count)
    if now_s > span.started_s:
        done = ended[last]
        done.prefill_id, done.decode_id, done.kv_bytes = span.prefill_id, span.decode_id, span.kv_bytes
        done.rate_Bps = kv_bytes / (now_s - span.started_s)
        done.started_s, done.ended_s = span.started_s, now_s
        last += 1
    span.prefill_id = -1
    return last


@compiled
def first_since(ended: Records, first: int, last: int, oldest_s: float) -> int:
    """The first row from `first` on whose transfer ended at `oldest_s` or later."""
    while first < last and ended[first].ended_s < oldest_s:
        first += 1
    return first


@compiled
def book_spans(
    wiring: Wiring,
    spans: Records,
    first: int,
    last: int,
    end_s: float,
    window_s: float,
    now_s: float,
    per_link: Floats,
) -> bool:
    """Add to `per_link` [links] what transfers moved in a window: see `InFlight.own_Bps`. Whether one still runs."""
    running = False
    for row in range(first, last):
        span = spans[row]
        if span.prefill_id < 0:
            continue
        if window_s > 0:
            overlap = (min(span.ended_s, end_s) - max(span.started_s, end_s - window_s)) / window_s
        else:
            overlap = 1.0 if span.started_s <= end_s < span.ended_s else 0.0
        if overlap > 0:
            rate_Bps, runs_s = span.rate_Bps, now_s - span.started_s
            if span.ended_s == np.inf:
                running = True
                if runs_s > 0:
                    rate_Bps = min(rate_Bps, span.kv_bytes / runs_s)
            book(wiring, span.prefill_id, span.decode_id, overlap * rate_Bps, per_link)
    return running
