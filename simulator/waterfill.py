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

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.compiled import compiled

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

SETTLED, RISING, STOPPED = 0, 1, 2  # a flow: as before this solve; rising with the water; given its new level
# A link: as before this solve; open; open, with a fill level that may have risen since; waiting for its new fill level.
CLOSED, OPEN, STALE, FRESH = 0, 1, 2, 3
# Levels that differ by less than this, relatively, are the same level: 4,500 times the spacing of doubles, so that
# rounding does not ripple through the network, and far below the 1e-9 to which the tests hold the rates.
SAME_LEVEL = 1e-12


class Heap(NamedTuple):
    """A binary min-heap of items 0..n-1 that knows where each item is; equal keys come out by item number."""

    item: Ints  # [n], heap order
    where: Ints  # [n], index in `item`, or -1
    key: Floats  # [n], by item
    length: Ints  # [1]


class Stack(NamedTuple):
    """A list of numbers in a fixed array."""

    item: Ints
    length: Ints  # [1]


class Tables(NamedTuple):
    """Everything the loops know. An *entry* is one crossing of a link by a flow, numbered slot * stride + hop."""

    stride: int  # entries kept for a slot
    clock_s: Floats  # [1]
    # by link
    capacity_Bps: Floats
    link_level: Floats  # at which the link is full, B/s per unit of weight; inf if it limits nobody
    fill_level: Floats  # while open: the level at which it would now be full
    departed_B: Floats  # carried for flows that have left
    first_entry: Ints  # head of the list of its entries, or -1
    link_phase: Ints
    # by slot
    level: Floats
    weight: Floats
    size_B: Floats
    sent_B: Floats  # until since_s
    since_s: Floats
    flow: NDArray[np.int64]  # the caller's number of the flow
    bottleneck: Ints  # a full link on which no flow stands higher
    flow_phase: Ints
    hops: Ints
    # by entry
    owner: Ints
    link: Ints
    next_entry: Ints
    previous_entry: Ints
    # work space
    free_slot: Stack
    open_link: Stack
    fresh_link: Stack  # to be given a fill level before the water rises on
    moved: Stack  # slots given a new level in this solve
    stopped: Stack  # slots given a level in this solve, new or old
    bound: Floats  # by slot
    bound_weight: Floats  # by slot
    filling: Heap  # open links by the level at which something happens to them
    ending: Heap  # flows by the time at which they end


@compiled
def push(stack: Stack, number: int) -> None:
    stack.item[stack.length[0]] = number
    stack.length[0] += 1


@compiled
def sift(heap: Heap, hole: int, item: int) -> None:
    """Put `item` where it belongs, starting from the free place `hole`."""
    key = heap.key[item]
    length = heap.length[0]
    while hole > 0:
        parent = (hole - 1) >> 1
        other = heap.item[parent]
        if heap.key[other] < key or (heap.key[other] == key and other < item):
            break
        heap.item[hole] = other
        heap.where[other] = hole
        hole = parent
    while True:
        child = 2 * hole + 1
        if child >= length:
            break
        other = heap.item[child]
        if child + 1 < length:
            right = heap.item[child + 1]
            if heap.key[right] < heap.key[other] or (heap.key[right] == heap.key[other] and right < other):
                child += 1
                other = right
        if key < heap.key[other] or (key == heap.key[other] and item < other):
            break
        heap.item[hole] = other
        heap.where[other] = hole
        hole = child
    heap.item[hole] = item
    heap.where[item] = hole


@compiled
def put(heap: Heap, item: int, key: float) -> None:
    """Insert the item, or move it to a new key."""
    heap.key[item] = key
    hole = heap.where[item]
    if hole < 0:
        hole = heap.length[0]
        heap.length[0] += 1
    sift(heap, hole, item)


@compiled
def take(heap: Heap, item: int) -> None:
    """Remove the item."""
    hole = heap.where[item]
    heap.where[item] = -1
    heap.length[0] -= 1
    last = heap.item[heap.length[0]]
    if last != item:
        sift(heap, hole, last)


@compiled
def open_link(n: Tables, link: int) -> None:
    if n.link_phase[link] == CLOSED:
        n.link_phase[link] = OPEN
        push(n.open_link, link)


@compiled
def add(n: Tables, path: NDArray[np.int64], size_B: float, weight: float, flow: int) -> int:
    """Start a flow at the clock and return its slot; it has no rate until `solve`."""
    n.free_slot.length[0] -= 1
    slot = n.free_slot.item[n.free_slot.length[0]]
    n.level[slot] = 0.0
    n.weight[slot] = weight
    n.size_B[slot] = size_B
    n.sent_B[slot] = 0.0
    n.since_s[slot] = n.clock_s[0]
    n.flow[slot] = flow
    n.bottleneck[slot] = -1
    n.flow_phase[slot] = RISING
    n.hops[slot] = len(path)
    for hop in range(len(path)):
        link = path[hop]
        entry = slot * n.stride + hop
        head = n.first_entry[link]
        n.link[entry] = link
        n.next_entry[entry] = head
        n.previous_entry[entry] = -1
        if head >= 0:
            n.previous_entry[head] = entry
        n.first_entry[link] = entry
        open_link(n, link)
    put(n.ending, slot, np.inf)
    return int(slot)


@compiled
def sent_by(n: Tables, slot: int, time_s: float) -> float:
    """Return the bytes that the flow has sent at `time_s`, never more than its size."""
    sent_B = n.sent_B[slot] + n.weight[slot] * n.level[slot] * (time_s - n.since_s[slot])
    return float(min(n.size_B[slot], sent_B))


@compiled
def remove(n: Tables, slot: int, sent_B: float) -> None:
    """Take the flow off its links, which remember the bytes that it sent."""
    for entry in range(slot * n.stride, slot * n.stride + n.hops[slot]):
        link = n.link[entry]
        after, before = n.next_entry[entry], n.previous_entry[entry]
        if before >= 0:
            n.next_entry[before] = after
        else:
            n.first_entry[link] = after
        if after >= 0:
            n.previous_entry[after] = before
        n.departed_B[link] += sent_B
        open_link(n, link)
    take(n.ending, slot)
    push(n.free_slot, slot)


@compiled
def update_fill_level(n: Tables, link: int, water: float) -> None:
    """Find the level, at or above `water`, at which an open link will be full; queue the link for what comes first.

    At level s the link carries the sum of w * min(bound, s) of its flows, a concave rising function of s. Newton's
    method from a point left of its root never passes the root, and each step leaves at least one bound behind.
    """
    room = n.capacity_Bps[link]
    growth = 0.0
    holds = False
    bounds = 0
    entry = n.first_entry[link]
    while entry >= 0:
        slot = n.owner[entry]
        phase = n.flow_phase[slot]
        weight = n.weight[slot]
        if phase == RISING:
            growth += weight
        elif phase == SETTLED and n.bottleneck[slot] == link:
            growth += weight
            holds = True
        else:
            level = n.level[slot]
            room -= weight * level
            if phase == SETTLED and level > water:
                n.bound[bounds] = level
                n.bound_weight[bounds] = weight
                bounds += 1
        entry = n.next_entry[entry]
    if not holds:
        n.link_level[link] = np.inf
    fills_at = np.inf
    if growth > 0.0 or room < 0.0:  # else even all the bounds together leave room
        while True:
            room_above, growth_above = room, growth
            for i in range(bounds):
                room_above += n.bound_weight[i] * n.bound[i]
                growth_above += n.bound_weight[i]
            fills_at = room_above / growth_above if growth_above > 0.0 else np.inf
            above = 0
            for i in range(bounds):
                if n.bound[i] > fills_at:
                    n.bound[above] = n.bound[i]
                    n.bound_weight[above] = n.bound_weight[i]
                    above += 1
            if above == bounds:
                break
            bounds = above
    n.fill_level[link] = fills_at
    n.link_phase[link] = OPEN
    put(n.filling, link, max(water, min(fills_at, n.link_level[link])))


@compiled
def refresh(n: Tables, link: int) -> None:
    """Ask for a new fill level of the link before the water rises on, because one of its flows rises or deviates."""
    if n.link_phase[link] != FRESH:
        if n.link_phase[link] == CLOSED:
            push(n.open_link, link)
        n.link_phase[link] = FRESH
        push(n.fresh_link, link)


@compiled
def release(n: Tables, link: int) -> None:
    """Let the flows that the link held rise with the water."""
    n.link_level[link] = np.inf
    entry = n.first_entry[link]
    while entry >= 0:
        slot = n.owner[entry]
        if n.flow_phase[slot] == SETTLED and n.bottleneck[slot] == link:
            n.flow_phase[slot] = RISING
            for other in range(slot * n.stride, slot * n.stride + n.hops[slot]):
                refresh(n, n.link[other])
        entry = n.next_entry[entry]


@compiled
def fill(n: Tables, link: int, level: float) -> None:
    """Stop the flows of a link that is full at `level`."""
    n.link_level[link] = level
    entry = n.first_entry[link]
    while entry >= 0:
        slot = n.owner[entry]
        phase = n.flow_phase[slot]
        old = n.level[slot]
        same = abs(old - level) <= SAME_LEVEL * level
        if phase == RISING or (phase == SETTLED and (old > level or same or n.bottleneck[slot] == link)):
            n.flow_phase[slot] = STOPPED
            n.bottleneck[slot] = link
            push(n.stopped, slot)
            if not same:
                n.sent_B[slot] = sent_by(n, slot, n.clock_s[0])
                n.since_s[slot] = n.clock_s[0]
                n.level[slot] = level
                push(n.moved, slot)
            if phase == RISING or not same:
                for other in range(slot * n.stride, slot * n.stride + n.hops[slot]):
                    crossed = n.link[other]
                    if n.link_phase[crossed] == CLOSED:
                        refresh(n, crossed)
                    elif n.link_phase[crossed] == OPEN:
                        n.link_phase[crossed] = STALE
        entry = n.next_entry[entry]


@compiled
def solve(n: Tables) -> None:
    """Give every flow its max-min fair rate, starting from the links whose flows were added or removed."""
    for i in range(n.open_link.length[0]):
        update_fill_level(n, n.open_link.item[i], 0.0)
    while n.filling.length[0] > 0:
        link = n.filling.item[0]
        water = n.filling.key[link]
        if n.link_phase[link] == STALE:
            update_fill_level(n, link, water)
            continue
        take(n.filling, link)
        if water == np.inf:
            continue
        level, old_level = n.fill_level[link], n.link_level[link]
        if level > old_level * (1.0 + SAME_LEVEL):
            release(n, link)
        else:
            fill(n, link, old_level if level >= old_level * (1.0 - SAME_LEVEL) else level)
        for i in range(n.fresh_link.length[0]):
            update_fill_level(n, n.fresh_link.item[i], water)
        n.fresh_link.length[0] = 0
    for i in range(n.open_link.length[0]):
        n.link_phase[n.open_link.item[i]] = CLOSED
    n.open_link.length[0] = 0
    for i in range(n.stopped.length[0]):
        n.flow_phase[n.stopped.item[i]] = SETTLED
    n.stopped.length[0] = 0
    for i in range(n.moved.length[0]):
        slot = n.moved.item[i]
        left_B = max(0.0, n.size_B[slot] - n.sent_B[slot])
        put(n.ending, slot, n.clock_s[0] + left_B / (n.weight[slot] * n.level[slot]))
    n.moved.length[0] = 0


@compiled
def run(n: Tables, until_s: float, ended: Ints) -> int:
    """Move the clock to `until_s`, or to the first end of a flow if that comes earlier.

    Flows that end at that very instant leave together; their slots go to `ended`, whose count is returned.
    Nothing is solved at the instant at which the clock stops: further changes may come at the same time.
    """
    count = 0
    if n.open_link.length[0] > 0 and n.clock_s[0] < until_s and not next_end_s(n) <= n.clock_s[0]:
        solve(n)
    end_s = next_end_s(n)
    if end_s == np.inf or end_s > until_s:
        if until_s < np.inf:
            n.clock_s[0] = until_s
        return 0
    n.clock_s[0] = end_s
    while next_end_s(n) == end_s and end_s < np.inf:
        slot = n.ending.item[0]
        remove(n, slot, n.size_B[slot])
        ended[count] = slot
        count += 1
    return count


@compiled
def next_end_s(n: Tables) -> float:
    """Return the time at which the next flow ends at the rates of the last solve, or inf."""
    if n.ending.length[0] == 0:
        return np.inf
    return float(n.ending.key[n.ending.item[0]])


@compiled
def read_links(n: Tables, rate_Bps: Floats, carried_B: Floats) -> None:
    """Add to `rate_Bps` what each link carries now, and to `carried_B` what it has carried for the flows present."""
    for i in range(n.ending.length[0]):
        slot = n.ending.item[i]
        rate = n.weight[slot] * n.level[slot]
        sent_B = sent_by(n, slot, n.clock_s[0])
        for entry in range(slot * n.stride, slot * n.stride + n.hops[slot]):
            rate_Bps[n.link[entry]] += rate
            carried_B[n.link[entry]] += sent_B


@compiled
def replay(
    n: Tables,
    order: NDArray[np.int64],
    start_s: Floats,
    size_B: Floats,
    first_hop: NDArray[np.int64],
    hops: NDArray[np.int64],
    ended: Ints,
    finish_s: Floats,
) -> int:
    """Fill in the time at which each of many flows ends; return how many of them never will.

    order: flows by start. Flow i crosses hops[first_hop[i] : first_hop[i + 1]]. ended: room for every slot.
    """
    waiting = 0
    while waiting < len(order) or n.ending.length[0] > 0:
        until_s = start_s[order[waiting]] if waiting < len(order) else np.inf
        count = run(n, until_s, ended)
        for i in range(count):
            finish_s[n.flow[ended[i]]] = n.clock_s[0]
        if count == 0 and waiting == len(order):
            break
        while count == 0 and waiting < len(order) and start_s[order[waiting]] == until_s:
            flow = order[waiting]
            if size_B[flow] > 0.0:
                add(n, hops[first_hop[flow] : first_hop[flow + 1]], size_B[flow], 1.0, flow)
            else:
                finish_s[flow] = until_s
            waiting += 1
    return int(n.ending.length[0])
