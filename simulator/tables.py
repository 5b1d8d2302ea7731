"""The tables of a fluid network: laid out empty, and moved to a larger layout when flows or paths outgrow them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.waterfill import FLOW, HEAP, HOP, LINK, STATE, Table

Floats = NDArray[np.float64]


class Tables(NamedTuple):
    """One network: the arrays of records that the functions of `simulator.waterfill` take, in their order."""

    state: Table  # [1] STATE
    links: Table  # [links] LINK
    flows: Table  # [slots] FLOW
    hops: Table  # [slots * stride] HOP; slot i has the rows from i * stride on
    filling: Table  # [links] HEAP of open links, by the level at which something happens to them
    ending: Table  # [slots] HEAP of flows, by the time at which they end


def empty_tables(capacity_Bps: Floats, slots: int, stride: int) -> Tables:
    """Return a network of idle links with room for `slots` flows of at most `stride` hops; slots are used from 0 up."""
    tables = Tables(
        state=np.zeros(1, STATE),
        links=np.zeros(len(capacity_Bps), LINK),
        flows=np.zeros(slots, FLOW),
        hops=np.zeros(slots * stride, HOP),
        filling=np.zeros(len(capacity_Bps), HEAP),
        ending=np.zeros(slots, HEAP),
    )
    tables.state["stride"] = stride
    tables.state["free"] = slots
    tables.links["capacity_Bps"] = capacity_Bps
    tables.links["level"] = np.inf
    tables.links["first_hop"] = -1
    tables.flows["free_slot"] = np.arange(slots - 1, -1, -1)
    tables.hops["slot"] = np.repeat(np.arange(slots), stride)
    tables.filling["where"] = -1
    tables.ending["where"] = -1
    return tables


def grown_tables(old: Tables, links: int, slots: int, stride: int) -> Tables:
    """Return the same network with room for at least as much of everything; added links are idle, of capacity inf.

    Not in the middle of a solve.
    """
    more = links - len(old.links)
    new = empty_tables(np.concatenate([old.links["capacity_Bps"], np.full(more, np.inf)]), slots, stride)
    old_slots, old_stride = len(old.flows), int(old.state["stride"][0])
    new.state[:] = old.state
    new.state["stride"] = stride
    new.links[: len(old.links)] = old.links
    new.flows[:old_slots] = old.flows
    new.filling[: len(old.links)] = old.filling
    new.ending[:old_slots] = old.ending
    new.hops.reshape(slots, stride)[:old_slots, :old_stride] = old.hops.reshape(old_slots, old_stride)
    for rows in (new.links["first_hop"], new.hops["next_hop"], new.hops["previous_hop"]):
        slot, hop = np.divmod(rows, old_stride)
        rows[:] = np.where(rows < 0, -1, slot * stride + hop)

    free = old.flows["free_slot"][: old.state["free"][0]]
    new.state["free"] = slots - old_slots + len(free)
    new.flows["free_slot"][: new.state["free"][0]] = np.concatenate([np.arange(slots - 1, old_slots - 1, -1), free])
    return new
