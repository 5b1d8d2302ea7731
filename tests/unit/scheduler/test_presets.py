"""The public routers' presets on decisions worked by hand; each is the one of `tests.support.one_decision`."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

from scheduler import POLICIES, RejectedError
from scheduler.policies.power_of_two import two_of
from scheduler.policy import new_policy, parameters_of
from tests.support.one_decision import DECODE, REQUEST, candidates, view
from tests.support.paths import ROOT
from workloads import Request

PROMPT = Request(0, 0.0, 5000, 10, tuple(range(10)))
"""Ten blocks: two of them cached are a match of 0.2."""


def chosen(policy: str, request: Request = REQUEST, parameters: dict[str, float] | None = None, **given: Any) -> int:
    return new_policy(policy, parameters).select(request, candidates(**given), view())


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
        ("cla", {"prefix": 2, "queue": 1}),
        ("llmd_default", {"queue": 2, "memory": 2, "prefix": 3}),
        (
            "llmd_topology",
            {"prefix": 2, "queue": 1, "affinity": 1, "host": 1, "rack": 0.2, "zone": 0.05, "region": 0.02},
        ),
        ("sglang_cache_aware", {"threshold": 0.3, "abs": 64, "rel": 1.5}),
        ("vllm_dp", {"waiting": 4, "running": 1}),
        ("dynamo_decode", {"active": 0}),
        ("aibrix_decode", {"running": 1, "throughput": 1}),
    ],
)
def test_parameters_are_as_published(policy: str, published: dict[str, float]) -> None:
    assert parameters_of(policy) == published


def test_vllm_counts_a_waiting_request_as_four_running_ones() -> None:
    busy = {"waiting": all_but(1, h2=0), "running": all_but(0, h2=3)}
    assert chosen("vllm_dp", **busy) == 2  # 3 against 4
    busy = {"waiting": all_but(1, h2=0), "running": all_but(0, h2=5, h3=0, h6=9)}
    assert chosen("vllm_dp", **busy) != 2  # 5 against 4


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


def test_dynamo_takes_the_fewest_blocks_and_gives_no_credit_for_the_cache() -> None:
    seen = {"reserved_tokens": all_but(1024, h11=513), "cached_tokens": {2: 1000}}  # 513 tokens: 2 blocks, as 1,024
    assert {chosen("dynamo_decode", **seen, waiting={2: k}) for k in range(3)} <= set(DECODE)
    seen["reserved_tokens"] = all_but(1025, h11=1024)  # 3 blocks against 2
    assert chosen("dynamo_decode", **seen) == 11
    # with w = 2: 2 blocks + 2 x 1 against 3 blocks
    assert chosen("dynamo_decode", parameters={"active": 2}, **seen, waiting={11: 1}) != 11


def test_dynamo_qos_adds_the_nominal_transfer_time_of_the_whole_prompt() -> None:
    """1,000 tokens are 13.1 ms within the rack and 26.2 ms within the pod: 13 and 26 blocks."""
    away = {"reserved_tokens": all_but(0, h2=512 * 12, h3=512 * 12), "cached_tokens": {10: 1000}}
    assert chosen("dynamo_qos", **away) in (2, 3)  # 12 + 13.1 against 26.2; what is cached does not count
    away = {"reserved_tokens": all_but(0, h2=512 * 14, h3=512 * 14)}
    assert chosen("dynamo_qos", **away) in (6, 7)  # 14 + 13.1 against 26.2


def test_aibrix_divides_load_and_idleness_by_free_memory() -> None:
    """r = 4 at 40 ms is 100 tokens/s, r = 8 at 50 ms 160; 1 and 1 are the maxima of both and of free memory."""
    seen = {"running": all_but(8, h6=4), "first_step_s": all_but(0.05, h6=0.04), "kv_use": all_but(0.5, h6=0.5)}
    # 6: 4/8 + 1 - 100/160 = .875; others 1 + 0 = 1
    assert chosen("aibrix_decode", **seen) == 6
    seen["kv_use"] = all_but(0.5, h6=0.6)  # .875 / (.4/.5) = 1.09 against 1
    assert chosen("aibrix_decode", **seen) != 6


def test_aibrix_prefers_a_busy_pod_to_an_idle_one_of_the_same_score_only_by_chance() -> None:
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
