"""Max-min fair rates after a few flows came or went, found by looking only at the links and flows concerned.

Compiled. It checks nothing and makes no array: that is left to `simulator.network` and `simulator.fluid`.

How a re-solve stays small and exact
------------------------------------
Let a flow's *level* be its rate divided by its weight, and let all levels rise together from 0 (progressive filling:
Bertsekas and Gallager, Data Networks, section 6.5.2). Compare the filling before a change with the one after it.
Up to level t the two differ only on links that carry an added or a removed flow, or a flow that *deviates*: its old
and its new level are not the same and the lower of them is below t. Every other link has the same load at t in both,
so it fills at t now if and only if it did before. Hence it is enough to replay, in order of level, the links that an
added, removed or deviating flow crosses: the *open* links. On an open link a flow that has not deviated counts with
its old level as an upper bound. Two things can happen to an open link:
- it *fills*, at or below its old level or after that has passed: flows that rise, or stood higher, stop at this level;
- its old level passes and it is not full: the flows that it held are *released* and rise with the water again.
Either way the other links of the flows that moved open too. When no open link can fill any more, each flow stands at
the level of a full link on which no flow stands higher, and no link is overfull; by the theorem in that section
this is the max-min allocation, and there is only one. The tests check that certificate itself.
"""

from __future__ import annotations

import numpy as np

from scheduler import compiled
from simulator.heap import put, take
from simulator.tables import Row, Table

SETTLED, RISING, STOPPED = 0, 1, 2  # a flow: as before this solve; rising with the water; given its new level
# A link: as before this solve; open, flows not yet summed up; open, fill_level perhaps too low; open, fill_level right;
# open, but not yet queued for its new sums.
CLOSED, UNSEEN, STALE, RIGHT, FRESH = 0, 1, 2, 3, 4
# Levels that differ by less than this, relatively, are the same level: 4,500 times the spacing of doubles, so that
# rounding does not ripple through the network, and far below the 1e-9 to which the tests hold the rates.
SAME_LEVEL = 1e-12


@compiled
def sent_by(flow: Row, time_s: float) -> float:
    """Return the bytes that the flow has sent at `time_s`, never more than its size."""
    return float(min(flow.size_B, flow.sent_B + flow.weight * flow.level * (time_s - flow.since_s)))


@compiled
def open_link(state: Table, links: Table, number: int) -> None:
    """Enter a closed link among those that are open."""
    if links[number].phase == CLOSED:
        links[number].phase = UNSEEN
        links[state[0].open].open_link = number
        state[0].open += 1


@compiled
def sum_up(links: Table, flows: Table, hops: Table, number: int) -> None:
    """Sum up the flows of an open link. Until the solve ends, `stop` and `release` keep the sums true."""
    link = links[number]
    room_Bps, growth, highest_bound = link.capacity_Bps, 0.0, 0.0
    growing = held = 0
    row = link.first_hop
    while row >= 0:
        flow = flows[hops[row].slot]
        if flow.phase == RISING:
            growth += flow.weight
            growing += 1
        elif flow.phase == SETTLED and flow.bottleneck == number:
            growth += flow.weight
            held += 1
        else:
            room_Bps -= flow.weight * flow.level
            if flow.phase == SETTLED:
                highest_bound = max(highest_bound, flow.level)
        row = hops[row].next_hop
    link.room_Bps, link.growth, link.highest_bound = room_Bps, growth, highest_bound
    link.growing, link.held = growing + held, held
    link.phase = STALE


@compiled
def exact_fill_level(links: Table, flows: Table, hops: Table, number: int, water: float) -> float:
    """Return the level above `water` at which an open link will be full.

    At level s the link carries the sum of w * min(bound, s) of its flows, a concave rising function of s. Newton's
    method from a point left of its root never passes the root, and each step leaves at least one bound behind.
    """
    link = links[number]
    bounds = 0
    row = link.first_hop
    while row >= 0:
        flow = flows[hops[row].slot]
        if flow.phase == SETTLED and flow.bottleneck != number and flow.level > water:
            flows[bounds].bound = flow.level
            flows[bounds].bound_weight = flow.weight
            bounds += 1
        row = hops[row].next_hop
    while True:
        room, growth = link.room_Bps, link.growth
        for i in range(bounds):
            room += flows[i].bound_weight * flows[i].bound
            growth += flows[i].bound_weight
        if link.growing + bounds == 0:
            return np.inf
        level = room / growth
        above = 0
        for i in range(bounds):
            if flows[i].bound > level:
                flows[above].bound = flows[i].bound
                flows[above].bound_weight = flows[i].bound_weight
                above += 1
        if above == bounds:
            return float(level)
        bounds = above


@compiled
def queue(
    state: Table, links: Table, flows: Table, hops: Table, filling: Table, number: int, water: float, exact: bool
) -> None:
    """Queue an open link for what comes first: that it is full, or that its old level passes.

    With all bounds in force it is full at room / growth. If no bound is higher than that level, it is the exact one;
    else it is too low, and `exact` computes it.
    """
    s = state[0]
    link = links[number]
    if link.growing > 0:
        link.fill_level = link.room_Bps / link.growth
    else:
        link.fill_level = np.inf if link.room_Bps >= -SAME_LEVEL * link.capacity_Bps else water
    if link.fill_level >= link.highest_bound:
        link.phase = RIGHT
    elif exact:
        link.fill_level = exact_fill_level(links, flows, hops, number, water)
        link.phase = RIGHT
    else:
        link.phase = STALE
    if link.held == 0:
        link.level = np.inf
    first = min(link.fill_level, link.level)
    if first < np.inf:
        s.filling = put(filling, s.filling, number, max(water, first))
    elif filling[number].where >= 0:
        s.filling = take(filling, s.filling, number)


@compiled
def release(state: Table, links: Table, flows: Table, hops: Table, filling: Table, number: int, water: float) -> None:
    """Let the flows that the link held back rise with the water; all their other links may fill earlier."""
    s = state[0]
    links[number].held = 0
    row = links[number].first_hop
    while row >= 0:
        slot = hops[row].slot
        flow = flows[slot]
        if flow.phase == SETTLED and flow.bottleneck == number:
            flow.phase = RISING
            for other in range(slot * s.stride, slot * s.stride + flow.hops):
                crossed = hops[other].link
                link = links[crossed]
                if crossed == number:
                    continue
                if link.phase >= STALE:
                    link.room_Bps += flow.weight * flow.level
                    link.growth += flow.weight
                    link.growing += 1
                else:
                    open_link(state, links, crossed)
                    sum_up(links, flows, hops, crossed)
                if link.phase != FRESH:
                    link.phase = FRESH
                    links[s.fresh].fresh_link = crossed
                    s.fresh += 1
        row = hops[row].next_hop
    queue(state, links, flows, hops, filling, number, water, False)
    for i in range(s.fresh):
        queue(state, links, flows, hops, filling, links[i].fresh_link, water, False)
    s.fresh = 0


@compiled
def stop(
    state: Table,
    links: Table,
    flows: Table,
    hops: Table,
    filling: Table,
    slot: int,
    number: int,
    level: float,
    water: float,
) -> None:
    """Stop a flow at `level` because link `number` is full; its other links fill later than was thought.

    One that was closed and holds flows back has to be looked at when the water reaches its old level; one that was
    closed and holds none has room to spare, and more of it now.
    """
    s = state[0]
    flow = flows[slot]
    rose = flow.phase == RISING
    old_level, old_bottleneck = flow.level, flow.bottleneck
    flow.phase = STOPPED
    flow.bottleneck = number
    flows[s.stopped].stopped_slot = slot
    s.stopped += 1
    moved = abs(old_level - level) > SAME_LEVEL * level
    if moved:
        flow.sent_B = sent_by(flow, s.clock_s)
        flow.since_s = s.clock_s
        flow.level = level
        flows[s.moved].moved_slot = slot
        s.moved += 1
    for row in range(slot * s.stride, slot * s.stride + flow.hops):
        crossed = hops[row].link
        link = links[crossed]
        if crossed == number:
            continue
        if link.phase >= STALE:
            if rose or old_bottleneck == crossed:
                link.room_Bps -= flow.weight * flow.level
                link.growth -= flow.weight
                link.growing -= 1
                link.held -= not rose
            else:
                link.room_Bps += flow.weight * (old_level - flow.level)
            link.phase = STALE
        elif link.phase == CLOSED and moved and link.level < np.inf:
            open_link(state, links, crossed)
            s.filling = put(filling, s.filling, crossed, max(water, link.level))


@compiled
def fill(
    state: Table, links: Table, flows: Table, hops: Table, filling: Table, number: int, level: float, water: float
) -> None:
    """Stop the flows of a link that is full at `level`, except those that stopped earlier or were lower all along."""
    links[number].level = level
    links[number].phase = UNSEEN
    row = links[number].first_hop
    while row >= 0:
        slot = hops[row].slot
        flow = flows[slot]
        higher = flow.level >= level * (1.0 - SAME_LEVEL) or flow.bottleneck == number
        if flow.phase == RISING or (flow.phase == SETTLED and higher):
            stop(state, links, flows, hops, filling, slot, number, level, water)
        row = hops[row].next_hop


@compiled
def solve(state: Table, links: Table, flows: Table, hops: Table, filling: Table, ending: Table) -> None:
    """Give every flow its max-min fair rate, starting from the links that open since flows were added or removed."""
    s = state[0]
    for i in range(s.open):
        sum_up(links, flows, hops, links[i].open_link)
        queue(state, links, flows, hops, filling, links[i].open_link, 0.0, False)
    while s.filling > 0:
        number = filling[0].item
        water = filling[0].key
        link = links[number]
        if link.phase != RIGHT:
            if link.phase == UNSEEN:
                sum_up(links, flows, hops, number)
            queue(state, links, flows, hops, filling, number, water, True)
            continue
        s.filling = take(filling, s.filling, number)
        if link.fill_level > link.level * (1.0 + SAME_LEVEL):
            release(state, links, flows, hops, filling, number, water)
        else:
            unchanged = link.fill_level >= link.level * (1.0 - SAME_LEVEL)
            level = link.level if unchanged else link.fill_level
            fill(state, links, flows, hops, filling, number, level, water)
    for i in range(s.open):
        links[links[i].open_link].phase = CLOSED
    s.open = 0
    for i in range(s.stopped):
        flows[flows[i].stopped_slot].phase = SETTLED
    s.stopped = 0
    for i in range(s.moved):
        flow = flows[flows[i].moved_slot]
        end_s = s.clock_s + max(0.0, flow.size_B - flow.sent_B) / (flow.weight * flow.level)
        s.ending = put(ending, s.ending, flows[i].moved_slot, end_s)
    s.moved = 0
