"""Which of the equal-cost paths each connection takes: at random by a hash, as ECMP does, or dealt out evenly.

A choice depends on the seed and on the connection's own name only, never on the order of events: two policies that send
the same request between the same instances get the same hash collisions.
"""

from __future__ import annotations

from typing import Literal

TRANSFER, BACKGROUND = 0, 1
"""The owners of connections; a request and a background flow of the same number hash differently."""

_WORD = (1 << 64) - 1


class PathChoice:
    """Deals the `connections` of one owner out to `paths` equal-cost paths: path to the connections on it."""

    def __init__(self, seed: int, spreading: Literal["hashed", "ideal"]) -> None:
        self._of_owner = [_mixed(_mixed(seed) + owner) for owner in (TRANSFER, BACKGROUND)]
        self._hashed = spreading == "hashed"

    def deal(self, owner: int, number: int, connections: int, paths: int) -> list[tuple[int, int]]:
        """(path, connections on it) for every path used, in ascending order. Paths count from 0."""
        if paths == 1:
            return [(0, connections)]
        return _counted(self._chosen(_mixed(self._of_owner[owner] + number), connections, paths))

    def detour(self, owner: int, number: int, home: int, connections: int, paths: list[int]) -> list[tuple[int, int]]:
        """`deal` of the connections of one path, `home`, to others by number, while a failed link is on it."""
        first = _mixed(_mixed(self._of_owner[owner] + number) + home + 1)
        return _counted([paths[at] for at in self._chosen(first, connections, len(paths))])

    def _chosen(self, first: int, connections: int, paths: int) -> list[int]:
        """The path of each connection of a bundle whose names mix to `first`."""
        if self._hashed:
            return [_mixed(first + connection) * paths >> 64 for connection in range(connections)]
        return [(first + connection) % paths for connection in range(connections)]

    def without(self, owner: int, number: int) -> PathChoice:
        """The same choice, without what is known of this owner's connections: here nothing is."""
        return self


class PersistentConnections:
    """The bundle of persistent connections that a transfer uses: the first idle one of its pair, as workers do.

    A bundle has a number of its own, so every transfer that uses it takes the same paths. `instances`: instances of the
    fabric.
    """

    def __init__(self, instances: int) -> None:
        self._instances = instances
        self._in_use: dict[int, set[int]] = {}  # slots by pair
        self._held: dict[int, tuple[int, int]] = {}  # pair and slot by request

    def take(self, request_id: int, source: int, target: int) -> int:
        """The number of the bundle, which is the request's until `give_back`."""
        pair = source * self._instances + target
        in_use = self._in_use.setdefault(pair, set())
        slot = 0
        while slot in in_use:
            slot += 1
        in_use.add(slot)
        self._held[request_id] = pair, slot
        return slot * self._instances**2 + pair

    def give_back(self, request_id: int) -> None:
        """The request's bundle is idle again. KeyError when it has none."""
        pair, slot = self._held.pop(request_id)
        self._in_use[pair].remove(slot)


def _counted(paths: list[int]) -> list[tuple[int, int]]:
    """How often each path occurs, in ascending order."""
    return [(path, paths.count(path)) for path in sorted(set(paths))]


def _mixed(word: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): 64 bits in, 64 well-mixed bits out."""
    word = (word + 0x9E3779B97F4A7C15) & _WORD
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _WORD
    return word ^ word >> 31
