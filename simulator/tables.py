"""The tables of a fluid network: records of links, flows and crossings, laid out empty and moved when outgrown.

A row of `links` is a link, a row of `flows` a *slot* that a flow has while it is present. A *hop* is one crossing of a
link by a flow; the hops of a slot are consecutive, and those of a link are threaded on a doubly linked list.
What the numbers mean while rates are being found is the business of `simulator.waterfill`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.code_fingerprint import fingerprint

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Table = NDArray[np.void]  # of one of the types below
Row = Any

STATE = np.dtype(
    [
        ("clock_s", np.float64),
        ("stride", np.int32),  # rows of `hops` reserved for each row of `flows`
        ("free", np.int32),  # the lengths of the lists and heaps in the other tables
        ("open", np.int32),
        ("fresh", np.int32),
        ("moved", np.int32),
        ("stopped", np.int32),
        ("filling", np.int32),
        ("ending", np.int32),
        (
            f"sources_{fingerprint('heap', 'waterfill', 'timeline')}",
            np.int8,
        ),
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
        ("fresh_link", np.int32),  # column of a list: links to be queued before the water rises on
    ],
    align=True,
)
FLOW = np.dtype(
    [
        ("level", np.float64),  # rate / weight
        ("weight", np.float64),
        ("bottleneck", np.int32),  # a full link on which no flow stands higher
        ("phase", np.int32),
        ("size_B", np.float64),
        ("sent_B", np.float64),  # until since_s
        ("since_s", np.float64),
        ("number", np.int64),  # the caller's
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
# A binary min-heap of the items 0, 1...: `item` and `key` in heap order; by item its index in the heap, or -1.
HEAP = np.dtype([("key", np.float64), ("item", np.int32), ("where", np.int32)])


class Tables(NamedTuple):
    """One network: the arrays of records that compiled functions take, in their order."""

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
