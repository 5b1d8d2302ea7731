"""Which queue of the switches' fair ports a stream should have, so that streams that meet seldom share one.

A fair port (topologies/shaping.py) deals its queues by a hash of both ends. Two streams of one queue have the share of
one, which no real network does to two connections: of 128 queues dealt at random a third of the transfers had such a
stripe. The source port is ours to choose, so it is chosen for its queue.
"""

from __future__ import annotations

from typing import NamedTuple

GROUP = 4
"""Streams of one bundle that have queues beside each other."""

APART = 17, 8, 15
"""How many groups lie between two sources, between the first and the next streams of a bundle, and between two bundles.
The first is prime to the number of groups, so that no two of up to that many hosts that send to one, or that one
sends to, meet in a group. Over all placements of the default fabric these let the fewest pairs meet that have a link
in common, of first bundles 2 where servers take turns, of a first and a second 8. By the others eight bundles of
eight streams have all 64 queues of 16 groups. Our choice."""


class FairQueues(NamedTuple):
    """The queues from `first` on, `number` of them, a multiple of 16, that streams of one kind have to themselves.

    `of`: how many queues there are. `hosts`: the addresses of all hosts, each in its place; without it the queue
    depends on bundle and stripe alone.
    """

    first: int
    number: int
    of: int
    hosts: tuple[str, ...] = ()

    def wanted(self, source: str | None, target: str, slot: int, stripe: int) -> int:
        """The queue of one stream of a bundle: all hosts, slots and stripes are spread over all queues.

        Alike for every run of one fabric, so that runs of one seed have the same ports.
        """
        ends = [self.hosts.index(one) if one in self.hosts else 0 for one in (source, target)]
        group = APART[0] * ends[0] + ends[1] + APART[1] * (stripe // GROUP) + APART[2] * slot
        groups = self.number // GROUP
        return self.first + GROUP * (group % groups) + (stripe + group // groups) % GROUP
