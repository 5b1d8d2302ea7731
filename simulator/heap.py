"""A binary min-heap of the items 0, 1, ... that knows where each item is, so that keys can change.

Kept in an array of `simulator.tables.HEAP`; the caller holds its length. Equal keys come out by item number.
"""

from __future__ import annotations

from scheduler import compiled
from simulator.tables import Table


@compiled
def sift(heap: Table, length: int, hole: int, item: int) -> None:
    """Put `item` where it belongs, starting from the free place `hole`."""
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
