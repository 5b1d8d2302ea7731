"""The arrays of the fluid network: laid out empty, and moved to a larger layout when flows or paths outgrow them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.waterfill import Heap, Stack, Tables

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


def empty_heap(items: int) -> Heap:
    return Heap(
        item=np.zeros(items, dtype=np.int32),
        where=np.full(items, -1, dtype=np.int32),
        key=np.full(items, np.inf),
        length=np.zeros(1, dtype=np.int32),
    )


def empty_stack(items: int) -> Stack:
    return Stack(item=np.zeros(items, dtype=np.int32), length=np.zeros(1, dtype=np.int32))


def empty_tables(capacity_Bps: Floats, slots: int, stride: int) -> Tables:
    """Return a network of idle links with room for `slots` flows of at most `stride` hops; slots are used from 0 up."""
    links = len(capacity_Bps)
    entries = slots * stride
    return Tables(
        stride=stride,
        clock_s=np.zeros(1),
        capacity_Bps=np.array(capacity_Bps, dtype=np.float64),
        link_level=np.full(links, np.inf),
        fill_level=np.full(links, np.inf),
        departed_B=np.zeros(links),
        first_entry=np.full(links, -1, dtype=np.int32),
        link_phase=np.zeros(links, dtype=np.int32),
        level=np.zeros(slots),
        weight=np.ones(slots),
        size_B=np.zeros(slots),
        sent_B=np.zeros(slots),
        since_s=np.zeros(slots),
        flow=np.full(slots, -1, dtype=np.int64),
        bottleneck=np.full(slots, -1, dtype=np.int32),
        flow_phase=np.zeros(slots, dtype=np.int32),
        hops=np.zeros(slots, dtype=np.int32),
        owner=np.repeat(np.arange(slots, dtype=np.int32), stride),
        link=np.zeros(entries, dtype=np.int32),
        next_entry=np.full(entries, -1, dtype=np.int32),
        previous_entry=np.full(entries, -1, dtype=np.int32),
        free_slot=Stack(item=np.arange(slots - 1, -1, -1, dtype=np.int32), length=np.array([slots], dtype=np.int32)),
        open_link=empty_stack(links),
        fresh_link=empty_stack(links),
        moved=empty_stack(slots),
        stopped=empty_stack(slots),
        bound=np.zeros(slots),
        bound_weight=np.zeros(slots),
        filling=empty_heap(links),
        ending=empty_heap(slots),
    )


def grown_tables(old: Tables, links: int, slots: int, stride: int) -> Tables:
    """Return the same network with room for at least as much of everything; added links have capacity inf and are idle.

    Not in the middle of a solve: the work space is not kept, except for the links that wait for the next solve.
    """
    old_links, old_slots = len(old.capacity_Bps), len(old.level)
    new = empty_tables(np.concatenate([old.capacity_Bps, np.full(links - old_links, np.inf)]), slots, stride)

    def renumbered(entries: Ints) -> Ints:
        slot, hop = np.divmod(entries, old.stride)
        return np.where(entries < 0, -1, slot * stride + hop).astype(np.int32)

    new.clock_s[:] = old.clock_s
    new.first_entry[:old_links] = renumbered(old.first_entry)
    for name in ("link_level", "fill_level", "departed_B", "link_phase"):
        getattr(new, name)[:old_links] = getattr(old, name)
    for name in ("level", "weight", "size_B", "sent_B", "since_s", "flow", "bottleneck", "flow_phase", "hops"):
        getattr(new, name)[:old_slots] = getattr(old, name)
    for target, source in (
        (new.link, old.link),
        (new.next_entry, renumbered(old.next_entry)),
        (new.previous_entry, renumbered(old.previous_entry)),
    ):
        target.reshape(slots, stride)[:old_slots, : old.stride] = source.reshape(old_slots, old.stride)
    for name in Heap._fields:
        heap_part = getattr(old.ending, name)
        getattr(new.ending, name)[: len(heap_part)] = heap_part
    pending = old.open_link.length[0]
    new.open_link.item[:pending] = old.open_link.item[:pending]
    new.open_link.length[0] = pending
    free = np.concatenate([np.arange(slots - 1, old_slots - 1, -1), old.free_slot.item[: old.free_slot.length[0]]])
    new.free_slot.item[: len(free)] = free
    new.free_slot.length[0] = len(free)
    return new
