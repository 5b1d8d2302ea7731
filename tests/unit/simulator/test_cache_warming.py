"""Prefix caches that the requests before the first one have filled: what is held at t = 0, where, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from scenario import Scenario, load_workload
from scheduler import PolicyError
from serving import Outcome
from simulator import AnalyticWorld, warm_caches
from tests.support.analytic_runs import fingerprint, run
from topologies import FabricSpec
from workloads import BLOCK_TOKENS, Request

LARGE = 4_000_000
"""Tokens of a prefix cache that forgets nothing in these runs."""

ONE_DECODES = FabricSpec(pods=1, racks_per_pod=1, gpus_per_instance=8)
"""Two instances: one prefills, one decodes."""


def scenario(warm: int, policy: str = "cla", cache_tokens: int = LARGE, **sections: Any) -> Scenario:
    """Requests 600 to 679 of the generator, after so many of those before them."""
    workload = {"first_request": 600, "requests": 80, "max_output_tokens": 16, "warm_requests": warm}
    return Scenario.model_validate(
        {
            "policy": policy,
            "serving": {"prefix_cache_tokens": cache_tokens},
            **sections,
            "workload": workload | sections.get("workload", {}),
        }
    )


def cached_share(outcome: Outcome) -> float:
    """Of all prompt tokens, those that needed no transfer."""
    return sum(r.cached_tokens for r in outcome.requests) / sum(r.input_length for r in outcome.requests)


def proved_tokens(requests: Iterable[Request], before: Iterable[Request] = ()) -> list[int]:
    """For each request, the tokens at its start that an earlier one had: what an endless cache of all would hold."""
    known = {block for request in before for block in request.block_ids}
    proved = []
    for request in requests:
        shared = next((k for k, one in enumerate(request.block_ids) if one not in known), len(request.block_ids))
        proved.append(min(shared * BLOCK_TOKENS, request.input_length))
        known.update(request.block_ids)
    return proved


def trace_of(folder: Path, *prompts: Sequence[int]) -> Path:
    """A trace of one request a second, each of whole blocks with these ids."""
    rows = [
        {"timestamp": 1000 * k, "input_length": BLOCK_TOKENS * len(ids), "output_length": 2, "hash_ids": list(ids)}
        for k, ids in enumerate(prompts)
    ]
    place = folder / "trace.jsonl"
    place.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return place


# Which requests


def test_the_requests_are_the_same_with_and_without_those_before_them() -> None:
    cold, warm = (load_workload(scenario(count)) for count in (0, 250))
    assert warm.requests == cold.requests
    assert (len(cold.preceding), len(warm.preceding)) == (0, 250)
    assert [request.request_id for request in warm.preceding] == list(range(250))
    assert {request.output_length for request in warm.preceding} <= set(range(17))
    both = load_workload(scenario(0, workload={"first_request": 350, "requests": 250 + 80})).requests
    together = [*warm.preceding, *warm.requests]
    assert [request.block_ids for request in together] == [request.block_ids for request in both]


def test_those_of_a_trace_are_the_last_ones_that_were_left_out(tmp_path: Path) -> None:
    trace = trace_of(tmp_path, (1,), (2,), (3,), (4, 5), (6,))
    spec = {"trace": str(trace), "first_request": 3, "warm_requests": 2, "arrivals": "raw"}
    found = load_workload(Scenario.model_validate({"workload": spec}))
    assert [request.block_ids for request in found.preceding] == [(2,), (3,)]
    assert [request.timestamp_s for request in found.preceding] == [0.0, 1.0]
    assert [request.block_ids for request in found.requests] == [(4, 5), (6,)]


def test_more_than_were_left_out_are_refused() -> None:
    with pytest.raises(ValidationError, match="3 requests are not there before number 2: set first_request to 3"):
        Scenario.model_validate({"workload": {"first_request": 2, "warm_requests": 3}})


# What is held, and where


def test_a_prompt_is_held_where_its_policy_sent_it(tmp_path: Path) -> None:
    """One decode instance: it holds what came before, in full blocks, and no more than the ids prove."""
    trace = trace_of(tmp_path, (1, 2, 3), (4,), (1, 2, 9, 3), (4, 5), (7, 8))
    spec = {"trace": str(trace), "first_request": 2, "warm_requests": 2, "arrivals": "raw"}
    found = run(Scenario.model_validate({"fabric": ONE_DECODES, "workload": spec, "policy": "round_robin"}))
    assert [record.cached_tokens for record in found.requests] == [2 * BLOCK_TOKENS, BLOCK_TOKENS, 0]
    assert found.evidence["warm_caches"] == {"requests": 2, "tokens": {"1": 4 * BLOCK_TOKENS}}


def test_round_robin_fills_all_caches_and_cache_aware_alone_one() -> None:
    for policy, holders in (("round_robin", 8), ("ca", 1)):
        held = run(scenario(200, policy, workload={"requests": 1})).evidence["warm_caches"]["tokens"]
        assert len(held) == 8
        assert sum(tokens > BLOCK_TOKENS for tokens in held.values()) == holders, policy


def test_a_small_cache_holds_no_more_than_it_can() -> None:
    held = run(scenario(200, "round_robin", 50_000)).evidence["warm_caches"]["tokens"]
    assert set(held.values()) == {50_000 // BLOCK_TOKENS * BLOCK_TOKENS}


def test_the_share_of_cached_tokens_rises_to_what_the_trace_offers() -> None:
    """One cache that forgets nothing, and one request at a time, so that the one before has arrived."""
    slow = {"fabric": ONE_DECODES, "serving": {"prefix_cache_tokens": 50_000_000}, "workload": {"speedup": 0.01}}
    requests = load_workload(scenario(600)).requests
    tokens = sum(request.input_length for request in requests)
    shares = []
    for warm in (0, 100, 600):
        wanted = scenario(warm, **slow)
        offered = proved_tokens(requests, load_workload(wanted).preceding)
        found = run(wanted)
        assert [record.cached_tokens for record in found.requests] == offered, warm
        shares.append(sum(offered) / tokens)
        assert cached_share(found) == pytest.approx(shares[-1])
    assert shares[0] < 0.12 < 0.25 < shares[-1], "a cold run sees little of what the whole trace offers"
    assert shares == sorted(shares)


@pytest.mark.parametrize("policy", ["round_robin", "cla_star", "netkv_static", "netkv_full"])
def test_no_more_is_cached_than_the_ids_prove(policy: str) -> None:
    cold, warm = run(scenario(0, policy)), run(scenario(600, policy))
    workload = load_workload(scenario(600))
    proved = proved_tokens(workload.requests, workload.preceding)
    assert all(record.cached_tokens <= most for record, most in zip(warm.requests, proved, strict=True))
    assert cached_share(cold) < cached_share(warm) <= sum(proved) / sum(r.input_length for r in workload.requests)


# And nothing else


def test_nothing_is_carried_over_but_what_the_caches_hold() -> None:
    """In turn means from the first instance on, and all that moved belongs to the requests of the run."""
    quiet = {"congestion": {"kind": "none"}}
    cold, warm = (run(scenario(count, "round_robin", **quiet)) for count in (0, 201))
    for column in ("timestamp_s", "prefill_id", "decode_id", "input_length"):
        assert [getattr(one, column) for one in warm.requests] == [getattr(one, column) for one in cold.requests]
    for outcome in (cold, warm):
        assert outcome.evidence["kv_bytes"] == sum(record.kv_bytes for record in outcome.requests)
    assert warm.evidence["kv_bytes"] < cold.evidence["kv_bytes"]
    carried = {row["link"]: row["bytes"] for row in warm.links if row["link"].startswith("h")}
    assert 0 < sum(carried.values()) <= warm.evidence["kv_bytes"]
    assert "warm_caches" not in cold.evidence


def test_warming_repeats_to_the_last_bit_and_knows_no_background_traffic() -> None:
    assert fingerprint(run(scenario(200, "netkv_full"))) == fingerprint(run(scenario(200, "netkv_full")))
    held = []
    for kind in ("onoff", "hotspot"):
        wanted = scenario(200, "netkv_full", congestion={"kind": kind})
        held.append(warm_caches(wanted, *wanted.build(), load_workload(wanted).preceding).evidence)
    assert held[0] == held[1]


def test_a_policy_that_fails_on_the_way_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cold_feet.py").write_text(
        "class Fails:\n    def select(self, request, candidates, view):\n        raise RuntimeError('too warm')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    wanted = scenario(5, "cold_feet:Fails")
    with (
        AnalyticWorld(wanted) as world,
        pytest.raises(PolicyError, match=r"workload.warm_requests: policy cold_feet:Fails failed .*: too warm"),
    ):
        world.run(wanted)


def test_faults_of_the_run_are_not_those_of_the_requests_before_it() -> None:
    dead = [{"at_s": 0.0, "kind": "decode_worker_killed", "target": f"h{decode}"} for decode in (2, 3)]
    whole, faulty = scenario(250), scenario(250, faults=dead)
    held = [
        warm_caches(one, *one.build(), load_workload(one).preceding).evidence["warm_caches"] for one in (whole, faulty)
    ]
    assert held[0] == held[1]
