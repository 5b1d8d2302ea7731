"""What the ids of prefix blocks prove, with an endless memory and with a bounded one."""

from __future__ import annotations

from workloads.prefix_chains import PrefixChains


def test_hits_are_the_leading_blocks_that_earlier_prompts_have() -> None:
    chains = PrefixChains()
    assert chains.follow((0, 1, 2), 1500, 512).hit_tokens == 0
    assert chains.follow((0, 1, 3), 1500, 512).hit_tokens == 1024
    assert chains.follow((0, 1, 2), 1500, 512).hit_tokens == 1500


def test_a_last_block_of_another_length_is_another_block() -> None:
    """600 tokens end 88 tokens into block 1; a prompt of 1,000 has 488 there: its content cannot be the same."""
    chains = PrefixChains()
    chains.follow((0, 1), 600, 512)
    longer = chains.follow((0, 1), 1000, 512)
    assert longer.ids[0] == 0
    assert longer.ids[1] != 1
    assert longer.hit_tokens == 512
    assert longer.conflict == "the id of block 2 was seen before with other than 488 tokens"
    assert chains.follow((0, 1), 1000, 512).hit_tokens == 1000
    assert chains.follow((0, 1), 600, 512).hit_tokens == 600


def test_all_that_follows_a_block_kept_apart_is_kept_apart() -> None:
    chains = PrefixChains()
    first = chains.follow((1, 2, 3), 1536, 512)
    other = chains.follow((9, 2, 3), 1536, 512)
    assert first.ids == (1, 2, 3)
    assert other.hit_tokens == 0
    assert not set(other.ids[1:]) & {2, 3}
    assert chains.follow((9, 2, 3), 1536, 512).ids == other.ids


def test_an_id_twice_in_a_prompt_is_two_blocks() -> None:
    assert len(set(PrefixChains().follow((5, 5, 5), 1536, 512).ids)) == 3


def test_a_bounded_memory_forgets_what_was_not_used() -> None:
    chains = PrefixChains(remembered=20)
    for k in range(100):
        assert chains.follow((0, 100 + k), 1024, 512).hit_tokens == (512 if k else 0)
    assert chains.forgot
    assert chains.follow((0, 100), 1024, 512).hit_tokens == 512
    assert chains.follow((0, 199), 1024, 512).hit_tokens == 1024
