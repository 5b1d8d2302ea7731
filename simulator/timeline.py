"""Flows enter and leave, and the clock moves from the end of one to the end of the next.

Compiled. It checks nothing and makes no array: that is left to `simulator.network` and `simulator.fluid`. Rates are
found by `simulator.waterfill`.
"""

from __future__ import annotations

import numpy as np

from scheduler import compiled
from simulator.heap import put, take
from simulator.tables import Floats, Ints, Table
from simulator.waterfill import RISING, open_link, sent_by, solve


@compiled
def path_flaw(path: Ints, links: int) -> int:
    """Return the place of the first link of a path that is not below `links`, or there twice; -1 where none is."""
    for i in range(len(path)):
        if path[i] < 0 or path[i] >= links:
            return i
        for before in range(i):
            if path[before] == path[i]:
                return i
    return -1


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
def next_end_s(state: Table, ending: Table) -> float:
    """Return the time at which the next flow ends at the rates of the last solve, or inf."""
    return float(ending[0].key) if state[0].ending > 0 else np.inf


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
def next_completion_s(state: Table, links: Table, flows: Table, hops: Table, filling: Table, ending: Table) -> float:
    """Return the time at which the next flow ends, at the rates of this instant, or inf."""
    if state[0].open > 0:
        solve(state, links, flows, hops, filling, ending)
    return next_end_s(state, ending)


@compiled
def advance(
    state: Table,
    links: Table,
    flows: Table,
    hops: Table,
    filling: Table,
    ending: Table,
    until_s: float,
    ended: Ints,
    number: Ints,
    finish_s: Floats,
) -> int:
    """Move the clock to `until_s` and return how many flows ended on the way: their numbers, and when they did.

    By time, then by number. ended, number, finish_s: a place a slot.
    """
    total = 0
    while True:
        count = run(state, links, flows, hops, filling, ending, until_s, ended)
        if count == 0:
            return total
        for i in range(count):
            ended_number = flows[ended[i]].number
            place = total + i
            while place > total and number[place - 1] > ended_number:
                number[place] = number[place - 1]
                place -= 1
            number[place] = ended_number
            finish_s[total + i] = state[0].clock_s
        total += count


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
