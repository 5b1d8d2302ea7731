"""The public routers' presets on decisions worked by hand; each is the one of `tests.support.one_decision`."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scheduler import POLICIES, Candidates, RejectedError
from scheduler.policies.power_of_two import two_of
from scheduler.policy import new_policy, parameters_of
from tests.support.one_decision import DECODE, REQUEST, candidates, view
from tests.support.paths import ROOT
from workloads import Request

PROMPT = Request(0, 0.0, 5000, 10, tuple(range(10)))
"""Ten blocks: two of them cached are a match of 0.2."""


def chosen(policy: str, request: Request = REQUEST, parameters: dict[str, float] | None = None, **given: Any) -> int:
    return new_policy(policy, parameters).select(request, candidates(**given), view())


def chosen_by_seed(policy: str, request: Request, seed: int, **given: Any) -> int:
    return new_policy(policy).select(request, candidates(**given), view(seed=seed))


def all_but(usual: float, **other: float) -> dict[int, float]:
    """A value for every decode instance, with exceptions named h2, h3, ..."""
    return dict.fromkeys(DECODE, usual) | {int(name[1:]): value for name, value in other.items()}


def test_the_names_are_those_that_were_agreed() -> None:
    assert set(POLICIES) == {
        *("round_robin", "random", "least_loaded", "vllm_dp", "power_of_two", "ca", "cla", "cla_star"),
        *("llmd_default", "llmd_topology", "sglang_cache_aware", "dynamo_decode", "dynamo_qos", "aibrix_decode"),
        *("conductor", "netkv_topo_only", "netkv_static", "netkv_full", "netkv_fresh"),
        *("paper_static", "paper_self_contention", "paper_full"),
    }


@pytest.mark.parametrize(
    ("policy", "published"),
    [
        ("cla", {"prefix": 2, "queue": 1, "match_tokens": 16_384}),
        ("llmd_default", {"queue": 2, "memory": 2, "prefix": 3, "match_tokens": 131_072}),
        (
            "llmd_topology",
            {
                **{"prefix": 2, "queue": 1, "affinity": 1, "match_tokens": 16_384},
                **{"host": 1, "rack": 0.2, "zone": 0.05, "region": 0.02},
            },
        ),
        ("sglang_cache_aware", {"threshold": 0.3, "abs": 64, "rel": 1.5}),
        ("vllm_dp", {"pressure": 6, "threshold": 0.5}),
        ("dynamo_decode", {"active": 0, "temperature": 0, "reuse": 0, "preferred": 0, "domain": 1}),
        ("aibrix_decode", {"running": 1, "throughput": 1, "spread": 16, "throughput_spread": 2048}),
    ],
)
def test_parameters_are_as_published(policy: str, published: dict[str, float]) -> None:
    assert parameters_of(policy) == published


def test_vllm_takes_the_fewest_requests_whether_they_wait_or_run() -> None:
    """max(n, q + r), and of equals the first from where the scan starts: 2, then 3, then 6."""
    assert chosen("vllm_dp", waiting=all_but(1, h7=0), running=all_but(1, h7=1)) == 7  # 1 against 2
    assert chosen("vllm_dp", waiting=all_but(4, h7=0), running=all_but(0, h7=5)) == 2  # 4 against 5


def test_vllm_charges_a_waiting_request_more_the_fuller_the_memory() -> None:
    """10: 2 waiting and 75 % in use are 2 + 6 x 2 x .25 = 5; the others run 4 or 6 with nobody waiting."""
    seen = {"waiting": all_but(0, h10=2), "kv_use": all_but(0.9, h10=0.75)}
    assert chosen("vllm_dp", **seen, running=all_but(6, h10=0)) == 10  # 5 against 6
    assert chosen("vllm_dp", **seen, running=all_but(4, h10=0)) == 2  # 5 against 4
    seen["kv_use"] = all_but(0.9, h10=0.5)  # no charge up to a half: 2
    assert chosen("vllm_dp", **seen, running=all_but(4, h10=0)) == 10


def test_vllm_goes_round_among_equals() -> None:
    policy, network = new_policy("vllm_dp"), view()
    turns = [policy.select(REQUEST, candidates(feasible={3: False}), network) for _ in range(9)]
    assert turns == [2, 6, 6, 7, 10, 11, 14, 15, 2]  # the start moves on by one, over 3 to 6


def test_vllm_adds_its_own_dispatches_to_old_statistics() -> None:
    """The statistics say 2 everywhere. Two were sent to 2 since: 4; 3 has 3 of ours: max(3, 2) = 3; 6 has finished."""
    old = {"running": all_but(2), "outstanding": all_but(5, h2=2, h3=3, h6=0)}
    assert chosen("vllm_dp", **old, sent_since={2: 2, 3: 0, 6: 0}) == 6  # max(0, 2) = 2
    assert chosen("vllm_dp", **old, sent_since={2: 2, 6: 2}) == 3  # 3 against 4 and 4
    # what was sent since waits: 1 + 6 x 1 x (.9 - .5) = 3.4 and 2 running are 5.4 against 5
    assert chosen("vllm_dp", **old, sent_since={2: 1, 3: 1, 6: 1}, kv_use=all_but(0.9)) == 7


def test_two_picks_are_different_and_every_pair_equally_likely() -> None:
    rng = np.random.default_rng(0)
    drawn = Counter(two_of(4, rng) for _ in range(12_000))
    assert len(drawn) == 12
    assert all(pair[0] != pair[1] and times == pytest.approx(1000, abs=150) for pair, times in drawn.items())
    assert two_of(1, rng) == (0, 0)


def test_power_of_two_takes_the_lower_token_load_of_its_picks() -> None:
    seen = candidates(reserved_tokens={decode: 100 * k for k, decode in enumerate(DECODE)})
    policy, network = new_policy("power_of_two"), view()
    drawn = Counter(policy.select(REQUEST, seen, network) for _ in range(5600))
    assert drawn[15] == 0  # the fullest loses to whatever it is compared with
    assert drawn[2] == pytest.approx(5600 * 2 / 8, abs=160)  # the emptiest wins whenever it is picked
    assert drawn[14] == pytest.approx(5600 * 2 / 56, abs=70)  # second last: only against the last


def test_power_of_two_knows_the_loads_of_up_to_30_s_ago() -> None:
    rising = candidates(reserved_tokens={decode: 100 * k for k, decode in enumerate(DECODE)})
    falling = candidates(reserved_tokens={decode: -100 * k for k, decode in enumerate(DECODE)})
    policy, network = new_policy("power_of_two"), view()

    def never_chosen(seen: Candidates, now_s: float) -> set[int]:
        network.move_to(now_s)
        return {*DECODE} - {policy.select(REQUEST, seen, network) for _ in range(500)}

    assert never_chosen(rising, 7.0) == {15}
    assert never_chosen(falling, 36.9) == {15}
    assert never_chosen(falling, 37.0) == {2}


@pytest.mark.parametrize(
    ("given", "best"),
    [
        ({"cached_tokens": {10: 512}, "running": {10: 63}}, 10),  # whatever the load
        ({"cached_tokens": {10: 512, 6: 512}, "running": {10: 2, 6: 1}}, 6),
        ({"cached_tokens": {10: 513, 6: 512}, "running": {10: 99}}, 10),
        ({"running": all_but(1, h14=0)}, 14),
    ],
)
def test_ca_takes_the_longest_prefix_then_the_least_load(given: dict[str, Any], best: int) -> None:
    assert chosen("ca", **given) == best


def test_llmd_default_adds_queue_memory_and_prefix() -> None:
    queues = {"waiting": all_but(2, h3=0, h6=4)}  # queue scores .5, 1 and 0
    assert chosen("llmd_default", PROMPT, **queues, kv_use=all_but(0.5)) == 3  # 2 x 1 + 1 = 3 against 2
    # 3: 2 + 2 x .2 = 2.4; 7: 1 + 1 + 3 x .2 = 2.6; 6: 0 + 1 + 3 x .5 = 2.5; the others 2
    matches = {"cached_tokens": {7: 1024, 6: 2560}, "kv_use": all_but(0.5, h3=0.8)}
    assert chosen("llmd_default", PROMPT, **queues, **matches) == 7


def test_llmd_topology_prefers_the_rack_unless_the_queue_says_otherwise() -> None:
    assert chosen("llmd_topology", waiting={2: 1}) == 3  # 1.2 against 0.2, .05 and .02 more elsewhere
    queues = {"waiting": all_but(0, h2=1, h3=2, h6=5)}  # 2: .8 + .2; 3: .6 + .2; 7: 1.05; 10: 1.02
    assert chosen("llmd_topology", **queues) == 7
    # 10 with a tenth of the prompt: 1.02 + 2 x .1 = 1.22 against 7's 1.05
    assert chosen("llmd_topology", PROMPT, **queues, cached_tokens={10: 512}) == 10


LONG = Request(0, 0.0, 40 * 512, 10, tuple(range(40)))
"""Forty blocks: the P/D samples of llm-d look at the first 32, 16,384 tokens."""


def test_llmd_looks_at_the_first_16384_tokens_of_a_prompt() -> None:
    near = {"cached_tokens": {2: 512 * 40, 6: 512 * 32}, "waiting": all_but(10, h2=2, h6=0)}
    # 2: 2 x 32/32 + .8 = 2.8; 6: 2 x 32/32 + 1 = 3; by all 40 blocks 2 + .8 against 2 x .8 + 1 = 2.6
    assert chosen("cla", LONG, **near) == 6
    assert chosen("cla", LONG, {"match_tokens": 40 * 512}, **near) == 2
    far = {"cached_tokens": {2: 512 * 40, 6: 512 * 32}}
    assert {chosen_by_seed("cla", LONG, seed, **far) for seed in range(12)} == {2, 6}  # equal by the first 32
    assert chosen("llmd_topology", LONG, **{"cached_tokens": {6: 512 * 32, 10: 512 * 40}}) == 6  # 3.05 and 3.02
    assert chosen("llmd_default", LONG, **far) == 2  # up to 131,072 tokens: 3 x 40/40 against 3 x 32/40


def test_llmd_topology_stays_on_the_host_where_it_can() -> None:
    """Only the filter decides: 15 would have 2 x 1 + 1 + .02 against 1.00 for the instance on the host."""
    seen = candidates(cached_tokens={15: 5120}, waiting={2: 9})
    on_the_host = replace(seen, tier=np.where(seen.decode_id == 2, 0, seen.tier))
    assert new_policy("llmd_topology").select(PROMPT, on_the_host, view()) == 2
    full = replace(on_the_host, feasible=seen.decode_id != 2)
    assert new_policy("llmd_topology").select(PROMPT, full, view()) == 15


@pytest.mark.parametrize(
    ("cached", "running", "best"),
    [
        ({6: 2048}, all_but(1, h3=0), 6),  # .4 > .3 and the loads are even
        ({6: 1536}, all_but(1, h3=0), 3),  # .3 is not above .3
        ({6: 2048}, all_but(1, h3=0, h6=64), 6),  # 64 - 0 is not above 64
        ({6: 2048}, all_but(1, h3=0, h6=65), 3),  # uneven
        ({6: 2048}, all_but(200, h3=199, h6=270), 6),  # 71 apart, but 270 < 1.5 x 199
        ({6: 2048}, all_but(200, h3=170, h6=270), 3),  # 100 apart and 270 > 255
    ],
)
def test_sglang_leaves_the_cache_when_loads_are_uneven(
    cached: dict[int, int], running: dict[int, float], best: int
) -> None:
    assert chosen("sglang_cache_aware", PROMPT, cached_tokens=cached, running=running) == best


def test_dynamo_takes_the_fewest_prompt_blocks_and_gives_no_credit_for_the_cache() -> None:
    seen = {"prompt_tokens": all_but(1024, h11=1535), "cached_tokens": {2: 512}}  # complete blocks: 2 everywhere
    rng = view()
    policy = new_policy("dynamo_decode")
    drawn = Counter(policy.select(REQUEST, candidates(**seen, reserved_tokens={2: 9999}), rng) for _ in range(800))
    assert set(drawn) == set(DECODE)  # 3 blocks each: neither the cache of 2 nor what is booked for answers counts
    seen["prompt_tokens"] = all_but(1536, h11=1535)  # 2 + 1 against 3 + 1
    assert chosen("dynamo_decode", **seen) == 11
    # with w = 2: 3 + 2 x 1 = 5 against 4
    assert chosen("dynamo_decode", parameters={"active": 2}, **seen, outstanding={11: 1}) != 11


def test_dynamo_counts_only_own_blocks_that_are_not_there_where_reuse_is_assumed() -> None:
    """9 complete blocks. 2 holds 3 of them and books 4 others: 4 + 6 = 10; 3 books 2: 2 + 9 = 11; 12 elsewhere."""
    seen = {"prompt_tokens": all_but(512 * 3, h2=512 * 4, h3=512 * 2), "cached_tokens": {2: 512 * 3}}
    assert chosen("dynamo_decode", PROMPT, {"reuse": 1}, **seen) == 2
    assert chosen("dynamo_decode", PROMPT, **seen) == 3  # 13, 11 and 12


def test_dynamo_draws_by_a_softmax_of_the_costs_over_their_range() -> None:
    """Costs 0 + 1, 1 + 1 and 2 + 1 blocks, 2 apart: at temperature .5 weights 1, exp(-1 / 1) and exp(-2 / 1)."""
    seen = candidates(prompt_tokens={2: 0, 3: 512, 6: 1024}, feasible=dict.fromkeys(DECODE[3:], False))
    policy, network = new_policy("dynamo_decode", {"temperature": 0.5}), view()
    drawn = Counter(policy.select(REQUEST, seen, network) for _ in range(15_032))
    # 1 + .3679 + .1353 = 1.5032
    assert [drawn[decode] for decode in (2, 3, 6)] == pytest.approx([10_000, 3679, 1353], abs=200)
    alike = candidates(feasible=dict.fromkeys(DECODE[2:], False))
    assert Counter(policy.select(REQUEST, alike, network) for _ in range(1000))[2] == pytest.approx(500, abs=60)


def test_dynamos_preferred_domain_multiplies_the_cost() -> None:
    """tanh(.85) = .6911, exp(-.6911) = .5010: in the rack 20 blocks cost 10.02."""
    assert math.exp(-math.tanh(0.85)) == pytest.approx(0.5010, abs=1e-4)
    preferred = {"preferred": 0.85}
    for policy, parameters in (("dynamo_decode", preferred), ("dynamo_qos", {**preferred, "weight": 0})):
        away = {"prompt_tokens": all_but(512 * 30, h2=512 * 19, h7=512 * 9)}
        assert chosen(policy, parameters=parameters, **away) == 7  # 10.02 against 9 + 1
        away = {"prompt_tokens": all_but(512 * 30, h2=512 * 18, h7=512 * 9)}
        assert chosen(policy, parameters=parameters, **away) == 2  # 19 x .5010 = 9.52 against 10
        assert chosen(policy, parameters={**parameters, "domain": 2}, **away) == 7  # 7 is in it, too: 5.01
    assert chosen("dynamo_decode", **away) == 7


def test_dynamo_qos_adds_the_nominal_transfer_time_of_the_whole_prompt() -> None:
    """1,000 tokens are 13.1 ms within the rack and 26.2 ms within the pod: 13 and 26 blocks."""
    away = {"prompt_tokens": all_but(0, h2=512 * 12, h3=512 * 12), "cached_tokens": {10: 1000}}
    assert chosen("dynamo_qos", **away) in (2, 3)  # 12 + 13.1 against 26.2; what is cached does not count
    away = {"prompt_tokens": all_but(0, h2=512 * 14, h3=512 * 14)}
    assert chosen("dynamo_qos", **away) in (6, 7)  # 14 + 13.1 against 26.2


def test_aibrix_divides_load_and_idleness_by_free_memory() -> None:
    """r = 4 at 40 ms is 100 tokens/s, r = 8 at 50 ms 160; 8, 160 and 50 % are the maxima."""
    seen = {"running": all_but(8, h6=4), "first_step_s": all_but(0.05, h6=0.04), "kv_use": all_but(0.5, h6=0.5)}
    # 6: 4/8 + 1 - 100/160 = .875; others 1 + 0 = 1
    assert chosen("aibrix_decode", **seen) == 6
    seen["kv_use"] = all_but(0.5, h6=0.56)  # .875 / (44/50) = .994
    assert chosen("aibrix_decode", **seen) == 6
    seen["kv_use"] = all_but(0.5, h6=0.564)  # free is rounded to 44 %: the same
    assert chosen("aibrix_decode", **seen) == 6
    seen["kv_use"] = all_but(0.5, h6=0.6)  # .875 / (40/50) = 1.09 against 1
    assert chosen("aibrix_decode", **seen) != 6


def test_aibrix_counts_pending_requests_as_running_but_not_their_tokens() -> None:
    """4 in each batch at 40 ms: 100 tokens/s. 7 has 1 pending, the others 2: 5/6 + 0 against 6/6 + 0."""
    seen = {"running": all_but(4), "waiting": all_but(2, h7=1), "first_step_s": all_but(0.04)}
    assert chosen("aibrix_decode", **seen) == 7
    # 10 runs 5 at 45 ms, 111 tokens/s, with nobody pending: 5/6 + 0; 7: 5/6 + 1 - 100/111
    seen = {**seen, "running": all_but(4, h10=5), "waiting": all_but(2, h7=1, h10=0)}
    assert chosen("aibrix_decode", **{**seen, "first_step_s": all_but(0.04, h10=0.045)}) == 10


def test_aibrix_takes_the_least_loaded_pod_where_loads_are_far_apart() -> None:
    seen = {"first_step_s": all_but(0.03), "kv_use": all_but(0.2, h14=0.9)}
    # 14: (4/20 + 1 - 133/667) / (10/80) = 8.0 against 1 elsewhere, but 20 - 4 = 16 requests apart
    assert chosen("aibrix_decode", **seen, running=all_but(20, h14=4)) == 14
    assert chosen("aibrix_decode", **seen, running=all_but(19, h14=4)) != 14  # 15 apart
    # ten in the batch generate 10 / 4 ms = 2,500 tokens/s, 15 none with as many requests: 2,500 > 2,048 apart
    busy = {"first_step_s": all_but(0.004), "running": all_but(10, h15=0), "waiting": {15: 10}}
    assert chosen("aibrix_decode", **busy) == 15
    busy["first_step_s"] = all_but(0.005)  # 2,000 apart: 10/10 + 0 elsewhere, 10/10 + 1 for 15
    assert chosen("aibrix_decode", **busy) != 15


def test_aibrix_prefers_the_pod_with_most_free_memory_among_idle_ones() -> None:
    assert chosen("aibrix_decode", kv_use=all_but(0.1, h7=0.0)) == 7  # all idle: (0 + 1) / (free / free_max)


def test_conductor_balances_load_and_turns_away_what_would_miss_an_objective() -> None:
    idle = {"first_step_s": all_but(0.03)}
    assert chosen("conductor", **idle, running=all_but(1, h15=0)) == 15
    with pytest.raises(RejectedError, match="TBT would be 101 ms, its objective is 100 ms"):
        chosen("conductor", first_step_s=all_but(0.101))
    late = view()
    late.move_to(4.95)  # seconds after arrival; 14 ms of transfer at least, 30 ms of step: 4.99 s
    policy = new_policy("conductor")
    assert policy.select(REQUEST, candidates(**idle, running=all_but(1, h2=0)), late) == 2
    late.move_to(4.97)
    with pytest.raises(RejectedError, match=r"TTFT would be 5\.0 s, its objective is 5 s"):
        policy.select(REQUEST, candidates(**idle, running=all_but(1, h2=0)), late)


@pytest.mark.parametrize(
    ("weights", "best"),
    [
        ({"prefix": 1, "queue": 0, "memory": 0}, 2),
        ({"prefix": 0, "queue": 1, "memory": 0}, 6),
        ({"prefix": 0, "queue": 0, "memory": 1}, 10),
        ({"prefix": 1, "queue": 1, "memory": 1}, 6),  # 2: .5 + 0 + .5; 6: 0 + 1 + .5; 10: .5 + .9
    ],
)
def test_cla_star_takes_its_weights_from_the_specification(weights: dict[str, float], best: int) -> None:
    seen = {
        "cached_tokens": {2: 2560},
        "waiting": all_but(4, h6=0, h10=2),
        "kv_use": all_but(0.5, h10=0.1),
    }
    assert chosen("cla_star", PROMPT, weights, **seen) == best


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_the_same_view_and_seed_give_the_same_decision(policy: str) -> None:
    def decisions() -> list[int]:
        one, network = new_policy(policy), view(busy=(), seed=7)
        return [one.select(REQUEST, candidates(), network) for _ in range(20)]

    assert decisions() == decisions()


def test_no_tie_depends_on_the_order_of_a_dict_or_a_set() -> None:
    program = (
        "from scheduler import POLICIES\n"
        "from tests.support.analytic_runs import *\n"
        "print([(p, fingerprint(run(small(p, workload=WorkloadSpec(requests=40, speedup=2))))) for p in POLICIES])"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("3", "4")
    }
    assert len(found) == 1
