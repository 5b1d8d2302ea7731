"""The prefix index by hand, and beside a naive model of D bounded LRU caches."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.prefix_index import PrefixIndex

INSTANCES = 3


def test_nothing_is_held_at_first() -> None:
    assert PrefixIndex(2, 10).matched_blocks([1, 2]).tolist() == [0, 0]


def test_the_longest_leading_run_of_blocks_counts() -> None:
    index = PrefixIndex(3, 10)
    index.insert(0, [1, 2, 3])
    index.insert(2, [1, 2, 4, 5])
    assert index.matched_blocks([1, 2, 3, 9]).tolist() == [3, 0, 2]
    assert index.matched_blocks([1, 2, 4, 5]).tolist() == [2, 0, 4]
    assert index.matched_blocks([2, 3]).tolist() == [2, 0, 1]
    assert index.matched_blocks([9, 1]).tolist() == [0, 0, 0]
    assert index.matched_blocks([]).tolist() == [0, 0, 0]


def test_leaves_of_the_least_recently_used_prompt_make_room() -> None:
    index = PrefixIndex(1, 4)
    index.insert(0, [1, 2, 3])
    index.insert(0, [1, 7, 8])  # one block too many: 3, the end of the older prompt, goes
    assert index.matched_blocks([1, 2, 3]).tolist() == [2]
    assert index.matched_blocks([1, 7, 8]).tolist() == [3]


def test_of_a_prompt_longer_than_the_cache_the_beginning_is_kept() -> None:
    index = PrefixIndex(1, 2)
    index.insert(0, [1, 2, 3, 4])
    assert index.matched_blocks([1, 2, 3, 4]).tolist() == [2]


def test_a_cache_of_no_blocks_holds_nothing() -> None:
    index = PrefixIndex(1, 0)
    index.insert(0, [1])
    assert index.matched_blocks([1]).tolist() == [0]


def test_one_instance_forgetting_a_block_does_not_take_it_from_another() -> None:
    index = PrefixIndex(2, 2)
    index.insert(0, [1, 2])
    index.insert(1, [1, 2])
    index.insert(0, [8, 9])
    assert index.matched_blocks([1, 2]).tolist() == [0, 2]


class NaiveCaches:
    """The definition: a list of blocks an instance, least recently used first, and a scan of each prompt."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.caches: list[list[int]] = [[] for _ in range(INSTANCES)]

    def insert(self, instance: int, blocks: list[int]) -> None:
        cache = self.caches[instance]
        for block in reversed(blocks[: self.capacity]):
            if block in cache:
                cache.remove(block)
            cache.append(block)
        del cache[: max(len(cache) - self.capacity, 0)]

    def matched(self, blocks: list[int]) -> list[int]:
        return [
            next((depth for depth, block in enumerate(blocks) if block not in cache), len(blocks))
            for cache in self.caches
        ]


BLOCK_OF: dict[tuple[int, ...], int] = {}


def chained(choices: list[int]) -> list[int]:
    """Block ids that stand for everything before them, as Mooncake's do: equal only after equal beginnings."""
    return [BLOCK_OF.setdefault(tuple(choices[: depth + 1]), len(BLOCK_OF)) for depth in range(len(choices))]


PROMPTS = st.lists(st.integers(0, 1), max_size=7).map(chained)


@settings(max_examples=200)
@given(
    capacity=st.integers(0, 9),
    inserts=st.lists(st.tuples(st.integers(0, INSTANCES - 1), PROMPTS), max_size=25),
    asked=PROMPTS,
)
def test_the_index_agrees_with_the_naive_caches(
    capacity: int, inserts: list[tuple[int, list[int]]], asked: list[int]
) -> None:
    index, naive = PrefixIndex(INSTANCES, capacity), NaiveCaches(capacity)
    for instance, blocks in inserts:
        index.insert(instance, blocks)
        naive.insert(instance, blocks)
        assert index.matched_blocks(asked).tolist() == naive.matched(asked)
        assert max(len(cache) for cache in naive.caches) <= capacity
    parents = {block: BLOCK_OF.get(path[:-1]) for path, block in BLOCK_OF.items()}
    for cache in naive.caches:  # closed under prefixes: no block outlives the one before it
        assert all(parents[block] is None or parents[block] in cache for block in cache)
