"""Which prefix blocks each decode instance holds: a bounded LRU cache an instance and one index over all of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from scheduler.arrays import Ints

FEW = 12
"""Sets of at most this many instances are read faster one by one than by unpacking their bits."""


class PrefixIndex:
    """The prefix caches of D decode instances, `capacity_blocks` each.

    A block is found only while all blocks before it are: a prompt's chain is touched from its end to its start, so the
    least recently used block of a cache is always a leaf and what remains is closed under prefixes.
    """

    def __init__(self, instances: int, capacity_blocks: int) -> None:
        self._capacity = capacity_blocks
        self._caches: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(instances)]
        self._holders: dict[int, int] = {}
        self._everyone = (1 << instances) - 1

    def matched_blocks(self, block_ids: Sequence[int]) -> Ints:
        """Leading blocks of a prompt that each instance holds, shape [D]. O(blocks) plus O(D)."""
        matched = np.zeros(len(self._caches), dtype=np.int64)
        holding = self._everyone
        for depth, block in enumerate(block_ids):
            still = holding & self._holders.get(block, 0)
            if still == holding:
                continue
            if holding == self._everyone:
                matched.fill(depth)  # instances that hold more are set later
            else:
                self._set_depth(matched, holding & ~still, depth)
            holding = still
            if not holding:
                break
        self._set_depth(matched, holding, len(block_ids))
        return matched

    def held_blocks(self) -> list[int]:
        """How many blocks each instance holds."""
        return [len(cache) for cache in self._caches]

    def insert(self, instance: int, block_ids: Sequence[int]) -> None:
        """An instance (0 ... D-1) now holds a prompt's blocks; the least recently used leaves are evicted.

        Of a prompt longer than the cache only the leading blocks that fit are stored.
        """
        cache, holders, bit = self._caches[instance], self._holders, 1 << instance
        for block in reversed(block_ids[: self._capacity]):
            if block in cache:
                cache.move_to_end(block)
            else:
                cache[block] = None
                holders[block] = holders.get(block, 0) | bit
        for _ in range(len(cache) - self._capacity):
            block, _ = cache.popitem(last=False)
            if left := holders[block] ^ bit:
                holders[block] = left
            else:
                del holders[block]

    def clear(self, instance: int) -> None:
        """An instance has lost everything that it held."""
        cache, bit = self._caches[instance], 1 << instance
        self._holders = {block: left for block, holding in self._holders.items() if (left := holding & ~bit)}
        cache.clear()

    @staticmethod
    def _set_depth(matched: Ints, instances: int, depth: int) -> None:
        if instances.bit_count() > FEW:
            count = len(matched)
            octets = np.frombuffer(instances.to_bytes(count // 8 + 1, "little"), np.uint8)
            matched[np.unpackbits(octets, count=count, bitorder="little").view(np.bool_)] = depth
            return
        while instances:
            lowest = instances & -instances
            matched[lowest.bit_length() - 1] = depth
            instances ^= lowest
