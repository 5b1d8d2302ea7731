"""A scenario: arrival modes, slices of a trace, model times and the congestion plan."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from scenario import (
    MODELS,
    CongestionSpec,
    ModelSpec,
    Scenario,
    load_requests,
    load_workload,
    part_of_trace,
    plan_background,
)
from scenario.model import PREFILL_TABLE_S, STEP_TABLE_S, interpolate
from topologies import FabricSpec, build_fattree, place
from workloads import Request, WorkloadError, generate
from workloads.arrivals import arrange, grid_of

# Arrivals

GRID_S = 3.0


def grid(count: int, per_tick: int = 10) -> list[Request]:
    """Requests as Mooncake stamps them: so many at once, every three seconds."""
    return [Request(100 + k, GRID_S * (k // per_tick), 512, 1, (k,)) for k in range(count)]


def arrived(mode: str, *, speedup: float = 1.0, seed: int = 0, rate_rps: float | None = None, count: int = 400) -> Any:
    return arrange(grid(count), mode, speedup, np.random.default_rng(seed), rate_rps)


def test_raw_keeps_the_grid() -> None:
    found = arrived("raw")
    assert [request.timestamp_s for request in found] == [GRID_S * (k // 10) for k in range(400)]
    assert [request.request_id for request in found] == list(range(400))


def test_jitter_leaves_every_request_in_its_bucket() -> None:
    found = arrived("jitter")
    first_s = np.random.default_rng(0).uniform(0, GRID_S, 400)[:10].min()
    for request in found:
        tick = request.block_ids[0] // 10
        assert 0 <= request.timestamp_s + first_s - GRID_S * tick < GRID_S + 1e-9
    assert len({request.timestamp_s for request in found}) == 400


def test_stamps_that_lie_on_no_grid_are_left_as_they_are() -> None:
    exact = [Request(k, 0.8 * k, 1024 * (k + 1), 8, tuple(range(k + 1))) for k in range(4)]
    found = arrange(exact, "jitter", 1.0, np.random.default_rng(0))
    assert [request.timestamp_s for request in found] == [0.8 * k for k in range(4)]


@pytest.mark.parametrize(
    ("stamps_s", "step_s"),
    [
        ([3.0 * (k // 10) for k in range(200)], 3.0),
        ([3.0 * (k // 10) - 0.001 * (k // 10 % 3 == 2) for k in range(200)], 3.0),  # Mooncake's 2,999 and 3,001 ms
        ([3.0 * (k // 10 * 2) if k < 100 else 3.0 * (k // 10 + 10) for k in range(200)], 3.0),  # empty ticks
        ([float(k // 3) for k in range(30)], 1.0),
        ([0.001 * (k // 5) for k in range(50)], 0.001),
        ([1.7e9 + 3.0 * (k // 10) for k in range(200)], 3.0),
        ([float(k) for k in range(60)], 0.0),  # one a tick
        ([0.0] * 10, 0.0),
        ([0.0] * 5 + [3.0] * 5, 0.0),  # two bursts
        ([1.37 * (k // 10) ** 1.2 for k in range(200)], 0.0),
        ([600.0 * (k // 10) for k in range(200)], 0.0),  # a burst every ten minutes
    ],
)
def test_the_grid_of_stamps(stamps_s: list[float], step_s: float) -> None:
    assert grid_of(stamps_s) == pytest.approx(step_s)


@pytest.mark.parametrize("seed", range(5))
def test_turns_of_a_tick_do_not_overtake_each_other_and_take_the_same_times(seed: int) -> None:
    turns = [Request(k, GRID_S * (k // 4), 512 * (k % 4 + 1), 1, tuple(range(k // 4 * 9, k // 4 * 9 + k % 4 + 1)))
             for k in range(40)]  # fmt: skip
    apart = [Request(k, turn.timestamp_s, 512, 1, ()) for k, turn in enumerate(turns)]
    found, free = (arrange(requests, "jitter", 1.0, np.random.default_rng(seed)) for requests in (turns, apart))
    assert [request.block_ids for request in found] == [turn.block_ids for turn in turns]
    assert [request.timestamp_s for request in found] == [request.timestamp_s for request in free]


def test_poisson_keeps_the_mean_rate_and_the_order() -> None:
    found = arrived("poisson", count=4000)
    assert [request.block_ids[0] for request in found] == list(range(4000))
    assert found[-1].timestamp_s / 3999 == pytest.approx(0.3, rel=0.06)  # ten a bucket of 3 s; 0.06 is 4 sigma
    gaps_s = np.diff([request.timestamp_s for request in found])
    assert gaps_s.std() == pytest.approx(gaps_s.mean(), rel=0.1)  # exponential


def test_poisson_at_a_rate_of_its_own() -> None:
    found = arrived("poisson", rate_rps=50.0, count=4000)
    assert 3999 / found[-1].timestamp_s == pytest.approx(50, rel=0.06)


@pytest.mark.parametrize("mode", ["raw", "jitter", "poisson"])
def test_every_mode_starts_at_zero_rises_repeats_and_obeys_speedup(mode: str) -> None:
    found, again, other = arrived(mode), arrived(mode), arrived(mode, seed=1)
    stamps_s = [request.timestamp_s for request in found]
    assert stamps_s[0] == 0
    assert stamps_s == sorted(stamps_s)
    assert again == found
    assert (other == found) == (mode == "raw")
    assert [2 * request.timestamp_s for request in arrived(mode, speedup=2.0)] == pytest.approx(stamps_s)


def test_requests_that_all_arrive_at_once_still_do_under_poisson() -> None:
    assert [r.timestamp_s for r in arrange(grid(5), "poisson", 1.0, np.random.default_rng(0))] == [0.0] * 5


def test_an_unknown_arrival_mode_is_refused() -> None:
    with pytest.raises(WorkloadError, match="arrivals: 'burst' is not one of raw, jitter, poisson"):
        arrange(grid(2), "burst", 1.0, np.random.default_rng(0))


# From a specification to requests


def write(folder: Path, *requests: tuple[int, int, int]) -> Path:
    """A trace of (milliseconds, input tokens, output tokens)."""
    place = folder / "t.jsonl"
    names = ("timestamp", "input_length", "output_length")
    rows = [dict(zip(names, request, strict=True)) | {"hash_ids": [0]} for request in requests]
    place.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return place


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    lengths = (100, 5000, 200, 9000, 300)
    return write(tmp_path, *((1000 * k, n, n // 10) for k, n in enumerate(lengths)))


def requested(trace: Path | None, **fields: Any) -> list[Request]:
    return load_requests(Scenario.model_validate({"workload": {"trace": trace, "arrivals": "raw", **fields}}))


def test_slices_of_a_trace_start_at_zero(trace: Path) -> None:
    found = requested(trace, first_request=2, requests=2)
    assert [(r.request_id, r.timestamp_s, r.input_length) for r in found] == [(0, 0.0, 200), (1, 1.0, 9000)]


def test_long_prompts_are_left_out_before_counting(trace: Path) -> None:
    found = requested(trace, max_input_tokens=5000, requests=4)
    assert [(r.request_id, r.input_length) for r in found] == [(0, 100), (1, 5000), (2, 200), (3, 300)]


def test_long_answers_are_cut(trace: Path) -> None:
    assert [r.output_length for r in requested(trace, max_output_tokens=20)] == [10, 20, 20, 20, 20]


def test_a_slice_beyond_the_trace_is_refused_with_what_it_holds(trace: Path) -> None:
    with pytest.raises(WorkloadError, match="has 5 requests, so there is none from number 7 on"):
        requested(trace, first_request=7)
    with pytest.raises(
        WorkloadError, match="has 3 requests of at most 300 input tokens, so there is none from number 3"
    ):
        requested(trace, first_request=3, max_input_tokens=300)


def test_a_mistaken_unit_is_refused_before_a_plan_of_it_fills_the_memory(tmp_path: Path) -> None:
    place = write(tmp_path, (0, 600, 5), (10**14, 600, 5))
    with pytest.raises(WorkloadError, match=r"the last request would arrive after 1e\+11 s"):
        requested(place)


def test_the_step_of_a_grid_is_that_of_the_trace_not_of_the_slice(tmp_path: Path) -> None:
    place = write(tmp_path, *((3000 * (k // 10), 600, 5) for k in range(40)))
    found = requested(place, requests=5, arrivals=None)
    assert len({request.timestamp_s for request in found}) == 5
    assert found[-1].timestamp_s < GRID_S


def test_jitter_that_was_asked_for_and_does_nothing_is_said(trace: Path) -> None:
    scenario = Scenario.model_validate({"workload": {"trace": trace, "arrivals": "jitter"}})
    assert load_workload(scenario).notes[-1].endswith("no grid: workload.arrivals=jitter leaves them as they are")


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({}, "5 of 5 requests, the whole 4 s"),
        ({"requests": 2, "speedup": 2}, "2 of 5 requests, the first 1 s"),
        ({"first_request": 3}, "2 of 5 requests, from number 3 on, 1 s"),
        ({"max_input_tokens": 300}, "3 of 5 requests of at most 300 input tokens, the first 4 s"),
    ],
)
def test_the_part_of_a_trace_in_words(trace: Path, fields: dict[str, Any], part: str) -> None:
    scenario = Scenario.model_validate({"workload": {"trace": trace, "arrivals": "raw", **fields}})
    assert part_of_trace(scenario, load_workload(scenario)) == f"{trace}: {part}"


def test_the_generator_is_deterministic_and_takes_long_prompts_out() -> None:
    assert requested(None, requests=50) == requested(None, requests=50)
    found = requested(None, requests=300, max_input_tokens=4000)
    assert len(found) == 300
    assert max(request.input_length for request in found) <= 4000


def test_the_default_arrivals_are_jitter_for_a_trace_and_poisson_for_the_generator(trace: Path) -> None:
    assert Scenario.model_validate({"workload": {"trace": trace}}).workload.arrival_mode == "jitter"
    assert Scenario().workload.arrival_mode == "poisson"


def test_streams_of_different_purposes_are_independent_of_the_policy() -> None:
    static, full = Scenario(policy="netkv_static", seed=3), Scenario(policy="netkv_full", seed=3)
    assert load_requests(static) == load_requests(full)
    assert static.rng("congestion").random() != static.rng("arrivals").random()


def test_generated_requests_have_as_many_blocks_as_their_prompt_fills() -> None:
    for request in generate("conversation", 300, 3.4, np.random.default_rng(1)):
        assert len(request.block_ids) == -(-request.input_length // 512)
        assert len(set(request.block_ids)) == len(request.block_ids)
        assert request.output_length >= 1


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(WorkloadError, match="profile: 'poetry' is not one of conversation"):
        generate("poetry", 1, 1.0, np.random.default_rng(0))


@pytest.mark.parametrize(
    "fields",
    [
        {"requests": 0},
        {"requests": 10**12},
        {"first_request": -1},
        {"rate_rps": 0},
        {"rate_rps": 1e-300},
        {"rate_rps": float("nan")},
        {"speedup": -1},
        {"speedup": float("inf")},
        {"max_input_tokens": 0},
        {"arrivals": "burst"},
        {"profile": "poetry"},
        {"tracee": "x"},
    ],
)
def test_a_workload_section_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Scenario.model_validate({"workload": fields})


# Model times


@pytest.mark.parametrize(
    ("model", "kappa"),
    [
        ("llama-3-70b", 2 * 80 * 8 * 128 * 2),
        ("llama-3-8b", 2 * 32 * 8 * 128 * 2),
        ("qwen3-32b", 2 * 64 * 8 * 128 * 2),
        ("qwen3-30b-a3b", 2 * 48 * 4 * 128 * 2),
    ],
)
def test_kv_bytes_of_a_token_are_2_x_layers_x_kv_heads_x_head_x_2(model: str, kappa: int) -> None:
    assert MODELS[model].kv_bytes_per_token == kappa


def test_prefill_takes_equation_1s_flop_at_the_effective_rate() -> None:
    """80 x (4 x 1000^2 x 8192 + 22 x 1000 x 8192^2) FLOP at 4 x 989e12 x 0.4 FLOP/s."""
    flop = 80 * (32_768_000_000 + 1_476_395_008_000)
    assert flop == 120_733_040_640_000
    assert ModelSpec().prefill_s(1000, 4) == pytest.approx(flop / 1.5824e15)
    assert ModelSpec().prefill_s(1000, 8) == pytest.approx(flop / 3.1648e15)


@pytest.mark.parametrize(("tokens", "seconds"), PREFILL_TABLE_S)
def test_the_prefill_table_is_exact_at_its_points_for_eight_gpus(tokens: int, seconds: float) -> None:
    assert ModelSpec(prefill="table").prefill_s(tokens, 8) == pytest.approx(seconds)
    assert ModelSpec(prefill="table").prefill_s(tokens, 4) == pytest.approx(2 * seconds)


@pytest.mark.parametrize(("batch", "seconds"), STEP_TABLE_S)
def test_the_step_table_is_exact_at_its_points(batch: int, seconds: float) -> None:
    assert ModelSpec().step_s(batch) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, 10), (1, 10), (2, 15), (3, 20), (4, 21), (5, 22), (7, 24)],
)
def test_a_table_is_linear_between_its_points_and_keeps_its_last_slope(at: float, value: float) -> None:
    assert interpolate(((1, 10.0), (3, 20.0), (5, 22.0)), at) == value


def test_a_table_of_one_point_is_a_constant() -> None:
    assert interpolate(((4, 0.03),), 64) == 0.03


@pytest.mark.parametrize(
    "table", [(), ((0, 1.0),), ((2, 1.0), (1, 2.0)), ((1, 1.0), (1, 2.0)), ((1, 0.0),), ((1, float("nan")),)]
)
def test_a_step_table_that_is_none_is_refused(table: tuple[tuple[int, float], ...]) -> None:
    with pytest.raises(ValidationError, match="step_table_s"):
        ModelSpec(step_table_s=table)


# Congestion

FABRIC = build_fattree(FabricSpec())
ROLES = place(FABRIC)


def planned(horizon_s: float, seed: int = 0, **fields: Any) -> Any:
    return plan_background(CongestionSpec(**fields), FABRIC, ROLES, 0.0, horizon_s, np.random.default_rng(seed))


def test_no_congestion_is_no_flows() -> None:
    assert planned(1e4, kind="none") == ()


def test_a_plan_repeats_with_its_seed_only() -> None:
    assert planned(100) == planned(100)
    assert planned(100) != planned(100, seed=1)


@pytest.mark.parametrize(("mean_on_s", "mean_off_s"), [(5.0, 5.0), (1.0, 3.0), (6.0, 2.0)])
def test_the_hot_spot_is_there_for_its_share_of_the_time(mean_on_s: float, mean_off_s: float) -> None:
    horizon_s = 4000 * (mean_on_s + mean_off_s)
    periods = {(flow.start_s, flow.stop_s) for flow in planned(horizon_s, mean_on_s=mean_on_s, mean_off_s=mean_off_s)}
    on_s = sum(stop_s - start_s for start_s, stop_s in periods)
    assert on_s / horizon_s == pytest.approx(mean_on_s / (mean_on_s + mean_off_s), rel=0.06)


def test_periods_follow_one_another_and_start_before_the_horizon() -> None:
    flows = planned(500)
    periods = sorted({(flow.start_s, flow.stop_s) for flow in flows})
    assert all(stop_s < next_s for (_, stop_s), (next_s, _) in pairwise(periods))
    assert periods[-1][0] < 500
    assert [flow.flow_id for flow in flows] == list(range(len(flows)))


@pytest.mark.parametrize("count", [1, 8, 30])
def test_every_spell_runs_into_one_decode_server_from_other_racks(count: int) -> None:
    by_spell: dict[float, list[Any]] = {}
    for flow in planned(500, flows=count):
        by_spell.setdefault(flow.start_s, []).append(flow)
    for flows in by_spell.values():
        assert len(flows) == count
        assert len({flow.target for flow in flows}) == 1
        assert flows[0].target in ROLES.decode
        assert min(FABRIC.tier(flow.source, flow.target) for flow in flows) >= 2
    assert len({flows[0].target for flows in by_spell.values()}) == len(ROLES.decode)


def test_on_a_fabric_of_one_rack_flows_come_from_other_servers() -> None:
    fabric = build_fattree(FabricSpec(pods=1, racks_per_pod=1, servers_per_rack=4))
    flows = plan_background(CongestionSpec(), fabric, place(fabric), 0.0, 200, np.random.default_rng(0))
    assert {fabric.tier(flow.source, flow.target) for flow in flows} == {1}


@pytest.mark.parametrize("fields", [{"kind": "storm"}, {"flows": 0}, {"mean_on_s": 0}, {"mean_off_s": 1e-9}])
def test_congestion_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CongestionSpec(**fields)
