"""The compiled inner loops of the fluid network: who is limited by which link, and when the next flow ends.

This module owns the arithmetic on a `Tables` of plain arrays. It checks nothing and never grows an array:
`simulator.network` and `simulator.fluid` do that. All compiled code is in this one file, because numba's
disk cache notices a change only in the file of the function that is called.

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

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.compiled import compiled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Table = NDArray[np.void]  # of one of the types below
Row = Any

STATE = np.dtype(
    [
        ("clock_s", np.float64),
        ("stride", np.int32),  # rows of `hops` kept for each row of `flows`
        ("free", np.int32),  # the lengths of the lists and heaps that are kept in the other tables
        ("open", np.int32),
        ("moved", np.int32),
        ("stopped", np.int32),
        ("filling", np.int32),
        ("ending", np.int32),
    ],
    align=True,
)
LINK = np.dtype(
    [
        ("capacity_Bps", np.float64),
        ("departed_B", np.float64),  # carried for flows that have left
        ("level", np.float64),  # at which it is full, B/s per unit of weight; inf if it holds no flow back
        # While open. A flow *grows* here if it rises, or if it is held back by this very link; the others have a bound.
        ("fill_level", np.float64),  # the level at which the link would now be full, or less
        ("room_Bps", np.float64),  # capacity less the bounds of the flows that do not grow
        ("growth", np.float64),  # the weight of the flows that grow
        ("highest_bound", np.float64),  # no bound above the water is higher
        ("growing", np.int32),  # how many flows grow
        ("held", np.int32),  # how many of them because they are held back here
        ("first_hop", np.int32),  # head of the doubly linked list of its rows in `hops`, or -1
        ("phase", np.int32),
        ("open_link", np.int32),  # column of a list: links opened since the last solve began
    ],
    align=True,
)
FLOW = np.dtype(
    [
        ("level", np.float64),  # rate / weight
        ("weight", np.float64),
        ("size_B", np.float64),
        ("sent_B", np.float64),  # until since_s
        ("since_s", np.float64),
        ("number", np.int64),  # the caller's
        ("bottleneck", np.int32),  # a full link on which no flow stands higher
        ("phase", np.int32),
        ("hops", np.int32),
        ("free_slot", np.int32),  # column of a list: rows not in use
        ("moved_slot", np.int32),  # column of a list: flows with another level than before this solve
        ("stopped_slot", np.int32),  # column of a list: flows whose level this solve has found
        ("bound", np.float64),  # work space: levels and weights of some flows of one link
        ("bound_weight", np.float64),
    ],
    align=True,
)
HOP = np.dtype([("slot", np.int32), ("link", np.int32), ("next_hop", np.int32), ("previous_hop", np.int32)])
# A binary min-heap of the items 0, 1...: `item` in heap order; by item its key and its index in the heap, or -1.
HEAP = np.dtype([("key", np.float64), ("item", np.int32), ("where", np.int32)])

SETTLED, RISING, STOPPED = 0, 1, 2  # a flow: as before this solve; rising with the water; given its new level
# A link: as before this solve; open, flows not yet summed up; open, fill_level perhaps too low; open, fill_level right.
CLOSED, UNSEEN, STALE, RIGHT = 0, 1, 2, 3
# Levels that differ by less than this, relatively, are the same level: 4,500 times the spacing of doubles, so that
# rounding does not ripple through the network, and far below the 1e-9 to which the tests hold the rates.
SAME_LEVEL = 1e-12


@compiled
def sift(heap: Table, length: int, hole: int, item: int) -> None:
    """Put `item` where it belongs, starting from the free place `hole`; equal keys come out by item number."""
    key = heap[item].key
    while hole > 0:
        parent = (hole - 1) >> 1
        other = heap[parent].item
        if heap[other].key < key or (heap[other].key == key and other < item):
            break
        heap[hole].item = other
        heap[other].where = hole
        hole = parent
    while 2 * hole + 1 < length:
        child = 2 * hole + 1
        other = heap[child].item
        if child + 1 < length:
            right = heap[child + 1].item
            if heap[right].key < heap[other].key or (heap[right].key == heap[other].key and right < other):
                child += 1
                other = right
        if key < heap[other].key or (key == heap[other].key and item < other):
            break
        heap[hole].item = other
        heap[other].where = hole
        hole = child
    heap[hole].item = item
    heap[item].where = hole


@compiled
def put(heap: Table, length: int, item: int, key: float) -> int:
    """Insert the item, or give it a new key; return the new length."""
    heap[item].key = key
    hole = heap[item].where
    if hole < 0:
        hole = length
        length += 1
    sift(heap, length, hole, item)
    return length


@compiled
def take(heap: Table, length: int, item: int) -> int:
    """Remove the item; return the new length."""
    hole = heap[item].where
    heap[item].where = -1
    last = heap[length - 1].item
    if last != item:
        sift(heap, length - 1, hole, last)
    return length - 1


@compiled
def next_end_s(state: Table, ending: Table) -> float:
    """Return the time at which the next flow ends at the rates of the last solve, or inf."""
    return float(ending[ending[0].item].key) if state[0].ending > 0 else np.inf


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
def add(
    state: Table,
    links: Table,
    flows: Table,
    hops: Table,
    ending: Table,
    path: Ints,
    size_B: float,
    weight: float,
    number: int,
) -> int:
    """Start a flow at the clock and return its slot; it has no rate until `solve`."""
    s = state[0]
    s.free -= 1
    slot = flows[s.free].free_slot
    flow = flows[slot]
    flow.level = 0.0
    flow.weight = weight
    flow.size_B = size_B
    flow.sent_B = 0.0
    flow.since_s = s.clock_s
    flow.number = number
    flow.bottleneck = -1
    flow.phase = RISING
    flow.hops = len(path)
    for i in range(len(path)):
        row = slot * s.stride + i
        link = links[path[i]]
        hops[row].link = path[i]
        hops[row].next_hop = link.first_hop
        hops[row].previous_hop = -1
        if link.first_hop >= 0:
            hops[link.first_hop].previous_hop = row
        link.first_hop = row
        open_link(state, links, path[i])
    s.ending = put(ending, s.ending, slot, np.inf)
    return int(slot)


@compiled
def remove(state: Table, links: Table, flows: Table, hops: Table, ending: Table, slot: int, sent_B: float) -> None:
    """Take the flow off its links, which remember the bytes that it sent.

    A link that held no flow back has room to spare and more of it now: it need not open.
    """
    s = state[0]
    for row in range(slot * s.stride, slot * s.stride + flows[slot].hops):
        after, before = hops[row].next_hop, hops[row].previous_hop
        number = hops[row].link
        link = links[number]
        if before >= 0:
            hops[before].next_hop = after
        else:
            link.first_hop = after
        if after >= 0:
            hops[after].previous_hop = before
        link.departed_B += sent_B
        if link.level < np.inf:
            open_link(state, links, number)
    s.ending = take(ending, s.ending, slot)
    flows[s.free].free_slot = slot
    s.free += 1


@compiled
def sum_up(links: Table, flows: Table, hops: Table, number: int) -> None:
    """Sum up the flows of an open link. Until the solve ends, `stop` and `release` keep the sums true."""
    link = links[number]
    link.room_Bps = link.capacity_Bps
    link.growth = 0.0
    link.growing = 0
    link.held = 0
    link.highest_bound = 0.0
    row = link.first_hop
    while row >= 0:
        flow = flows[hops[row].slot]
        held = flow.phase == SETTLED and flow.bottleneck == number
        if held or flow.phase == RISING:
            link.growth += flow.weight
            link.growing += 1
            link.held += held
        else:
            link.room_Bps -= flow.weight * flow.level
            if flow.phase == SETTLED:
                link.highest_bound = max(link.highest_bound, flow.level)
        row = hops[row].next_hop
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
    else it is too low, which `exact` mends.
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
                queue(state, links, flows, hops, filling, crossed, water, False)
        row = hops[row].next_hop
    queue(state, links, flows, hops, filling, number, water, False)


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
        water = filling[number].key
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


@compiled
def run(
    state: Table, links: Table, flows: Table, hops: Table, filling: Table, ending: Table, until_s: float, ended: Ints
) -> int:
    """Move the clock to `until_s`, or to the first end of a flow if that comes earlier.

    Flows that end at that very instant leave together; their slots go to `ended`, whose count is returned.
    Nothing is solved at the instant at which the clock stops: further changes may come at the same time.
    """
    s = state[0]
    if s.open > 0 and s.clock_s < until_s and next_end_s(state, ending) > s.clock_s:
        solve(state, links, flows, hops, filling, ending)
    end_s = next_end_s(state, ending)
    if end_s == np.inf or end_s > until_s:
        if until_s < np.inf:
            s.clock_s = until_s
        return 0
    s.clock_s = end_s
    count = 0
    while next_end_s(state, ending) == end_s:
        slot = ending[0].item
        remove(state, links, flows, hops, ending, slot, flows[slot].size_B)
        ended[count] = slot
        count += 1
    return count


@compiled
def read_links(state: Table, flows: Table, hops: Table, ending: Table, rate_Bps: Floats, carried_B: Floats) -> None:
    """Add to `rate_Bps` what each link carries now, and to `carried_B` what it has carried for the flows present."""
    s = state[0]
    for i in range(s.ending):
        slot = ending[i].item
        flow = flows[slot]
        sent_B = sent_by(flow, s.clock_s)
        for row in range(slot * s.stride, slot * s.stride + flow.hops):
            rate_Bps[hops[row].link] += flow.weight * flow.level
            carried_B[hops[row].link] += sent_B


@compiled
def replay(
    state: Table,
    links: Table,
    flows: Table,
    hops: Table,
    filling: Table,
    ending: Table,
    order: Ints,
    start_s: Floats,
    size_B: Floats,
    first_of_path: Ints,
    path_links: Ints,
    ended: Ints,
    finish_s: Floats,
) -> int:
    """Fill in the time at which each of many flows ends; return how many of them never will.

    order: flows by start. Flow i crosses path_links[first_of_path[i] : first_of_path[i + 1]]. ended: a place a slot.
    """
    waiting = 0
    while True:
        until_s = start_s[order[waiting]] if waiting < len(order) else np.inf
        count = run(state, links, flows, hops, filling, ending, until_s, ended)
        for i in range(count):
            finish_s[flows[ended[i]].number] = state[0].clock_s
        if count == 0 and waiting == len(order):
            return int(state[0].ending)
        while count == 0 and waiting < len(order) and start_s[order[waiting]] == until_s:
            number = order[waiting]
            if size_B[number] > 0.0:
                path = path_links[first_of_path[number] : first_of_path[number + 1]]
                add(state, links, flows, hops, ending, path, size_B[number], 1.0, number)
            else:
                finish_s[number] = until_s
            waiting += 1
