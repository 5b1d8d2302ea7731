"""Which queue of the switches' fair ports a stream should have, so that streams that meet seldom share one.

A fair port (topologies/shaping.py) deals its queues by a hash of both ends. Two streams of one queue have the share of
one, which no real network does to two connections: of 128 queues dealt at random a third of the transfers had such a
stripe. The source port is ours to choose, so it is chosen for its queue.
"""

from __future__ import annotations

from typing import NamedTuple

GROUP = 4
"""Streams of one bundle that have queues beside each other."""

APART = 11, 8, 17
"""How many groups lie between two sources, between the first and the next streams of a bundle, and between two bundles.
The first is prime to the number of groups, so that no two of up to that many hosts that send to one, or that one
sends to, meet in a group. In the default fabric no two first bundles of hosts that have a link in common meet where
half of the hosts are sources, and 3 pairs of 1,128 where a quarter is (tests/unit/workers/test_fair_queues.py). By the
others eight bundles of eight streams have all 64 queues of 16 groups, for which the last is odd; of such 17 is one by
which the fewest first and second bundles meet in the default's placement and the main job's. Our choice."""


class FairQueues(NamedTuple):
    """The queues from `first` on, `number` of them, a multiple of 16, that streams of one kind have to themselves.

    `of`: how many queues there are. `sources`, `targets`: the addresses of the hosts that send and get, each in its
    place; without them the queue depends on bundle and stripe alone.
    """

    first: int
    number: int
    of: int
    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()

    def wanted(self, source: str | None, target: str, slot: int, stripe: int) -> int:
        """The queue of one stream of a bundle: all hosts, slots and stripes are spread over all queues.

        Alike for every run of one fabric and placement, so that runs of one seed have the same ports.
        """
        begin = self.sources.index(source) if source in self.sources else 0
        end = self.targets.index(target) if target in self.targets else 0
        pair, groups = APART[0] * begin + end, self.number // GROUP
        group = pair + APART[1] * (stripe // GROUP) + APART[2] * slot
        # A first and a second bundle of one stream that meet in a group have different queues of it.
        return self.first + GROUP * (group % groups) + (stripe + pair // groups + 2 * slot) % GROUP
