"""A binary min-heap of the items 0, 1, ... that knows where each item is, so that keys can change.

Kept in an array of `simulator.tables.HEAP`; the caller holds its length. Equal keys come out by item number.
"""

from __future__ import annotations

from scheduler import compiled
from simulator.tables import Table


@compiled
def sift(heap: Table, length: int, hole: int, item: int, key: float) -> None:
    """Put `item` where it belongs by its key, starting from the free place `hole`."""
    while hole > 0:
        parent = (hole - 1) >> 1
        other, other_key = heap[parent].item, heap[parent].key
        if other_key < key or (other_key == key and other < item):
            break
        heap[hole].item, heap[hole].key = other, other_key
        heap[other].where = hole
        hole = parent
    while 2 * hole + 1 < length:
        child = 2 * hole + 1
        other, other_key = heap[child].item, heap[child].key
        if child + 1 < length:
            right, right_key = heap[child + 1].item, heap[child + 1].key
            if right_key < other_key or (right_key == other_key and right < other):
                child += 1
                other, other_key = right, right_key
        if key < other_key or (key == other_key and item < other):
            break
        heap[hole].item, heap[hole].key = other, other_key
        heap[other].where = hole
        hole = child
    heap[hole].item, heap[hole].key = item, key
    heap[item].where = hole


@compiled
def put(heap: Table, length: int, item: int, key: float) -> int:
    """Insert the item, or give it a new key; return the new length."""
    hole = heap[item].where
    if hole < 0:
        hole = length
        length += 1
    sift(heap, length, hole, item, key)
    return length


@compiled
def take(heap: Table, length: int, item: int) -> int:
    """Remove the item; return the new length."""
    hole = heap[item].where
    heap[item].where = -1
    last = heap[length - 1].item
    if last != item:
        sift(heap, length - 1, hole, last, heap[length - 1].key)
    return length - 1
