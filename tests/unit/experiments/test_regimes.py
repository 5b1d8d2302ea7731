"""The regimes: that in each of them what it is named after really decides, and what the sweep says of them."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import cache

import pandas as pd
import pytest

from experiments.analysis import decode_wait_ms
from experiments.questions import QUESTIONS
from experiments.questions.regimes import NETKV, PUBLIC, REGIMES, SHOWN_PUBLIC
from experiments.running import RunSpec
from scheduler import POLICIES
from simulator import AnalyticWorld

pytestmark = pytest.mark.xdist_group("regimes")
"""On one processor: its runs are made once."""

QUESTION = QUESTIONS["regimes"]


@cache
def made(regime: str, policy: str, seed: int = 0) -> pd.DataFrame:
    """The completed requests of one run of the `quick` profile, in the fluid model."""
    spec = spec_of(regime, policy, seed)
    with AnalyticWorld(spec.scenario, spec.simulation) as world:
        records = world.run(spec.scenario).requests
    frame = pd.DataFrame([asdict(record) for record in records])
    return frame[frame["status"] == "completed"]


@cache
def spec_of(regime: str, policy: str, seed: int = 0) -> RunSpec:
    conditions = QUESTION.conditions("quick", [policy], ("analytic",), {"seed": seed})
    (spec,) = (condition.spec for condition in conditions if condition.labels["regime"] == regime)
    return spec


def waiting_share(regime: str, policy: str) -> float:
    """Of two seeds: the requests that waited for a place in the batch for longer than a step of their own."""
    rows = pd.concat([made(regime, policy, seed) for seed in (0, 1)]).dropna(subset=["tpot_ms"])
    return float((decode_wait_ms(rows) > rows["tpot_ms"]).mean())


def cached_share(regime: str, policy: str) -> float:
    rows = made(regime, policy)
    return float(rows["cached_tokens"].sum() / rows["input_length"].sum())


@pytest.mark.parametrize(("regime", "least"), [("decode_slots", 0.15), ("decode_memory", 0.08)])
def test_decode_binds_where_a_regime_is_named_after_it(regime: str, least: float) -> None:
    """Of round-robin's requests; in the baseline under 2 % of anybody's wait longer than the step that is under way."""
    assert waiting_share(regime, "round_robin") >= least
    assert waiting_share(regime, "netkv_full") > waiting_share("baseline", "netkv_full")
    assert waiting_share("baseline", "round_robin") < 0.02
    assert waiting_share("baseline", "netkv_full") < 0.02


def test_slots_bind_without_memory_and_memory_without_slots() -> None:
    few, small = spec_of("decode_slots", "cla").serving, spec_of("decode_memory", "cla").serving
    default = spec_of("baseline", "cla").serving
    assert (few.kv_memory_tokens, small.batch_slots) == (default.kv_memory_tokens, default.batch_slots)
    longest = spec_of("decode_memory", "cla").workload
    assert longest.max_input_tokens is not None
    assert longest.max_output_tokens is not None
    need = longest.max_input_tokens + longest.max_output_tokens
    assert need <= small.kv_memory_tokens < 2 * longest.max_input_tokens, "the longest prompt fits, two do not"


def test_warm_caches_hold_several_times_as_much_for_who_looks_at_them() -> None:
    for policy in ("llmd_topology", "netkv_full"):
        assert cached_share("warm_caches", policy) > 3 * cached_share("baseline", policy)


def test_with_racks_apart_no_transfer_stays_in_its_rack() -> None:
    assert set(made("racks_apart", "netkv_full")["tier"]) == {2, 3}
    assert 1 in set(made("baseline", "netkv_full")["tier"])


@pytest.mark.parametrize("regime", ["hot_spots", "incast", "shuffle", "moving_rack"])
def test_the_shape_of_the_traffic_moves_transfers(regime: str) -> None:
    """The same decisions, so that only the network can differ; the mean of four seeds."""

    def transfer_ms(name: str) -> float:
        return sum(float(made(name, "round_robin", seed)["kv_transfer_ms"].mean()) for seed in range(4)) / 4

    assert transfer_ms(regime) > 1.05 * transfer_ms("baseline")


def test_every_regime_has_the_same_requests() -> None:
    def asked(regime: str) -> list[tuple[float, int, int]]:
        rows = made(regime, "round_robin")
        return list(zip(rows["timestamp_s"], rows["input_length"], rows["output_length"], strict=True))

    assert all(asked(regime) == asked("baseline") for regime in REGIMES)


def test_public_policies_are_ours_by_name_and_none_of_them_is_of_netkv_or_the_paper() -> None:
    ours = {name for name in POLICIES if name.startswith(("netkv", "paper"))} | {"ca", "cla_star"}
    assert set(PUBLIC) == set(POLICIES) - ours
    assert set(SHOWN_PUBLIC) <= set(PUBLIC)
    assert set(QUESTION.policies) == {*SHOWN_PUBLIC, "cla_star", *NETKV}


# What is said


def results(change: float, p_holm: float, public: float, public_p_holm: float) -> pd.DataFrame:
    """One row of NetKV-Full, one of the best public policy, in one regime."""
    row = {
        "world": "analytic", "workload": "rag", "regime": "incast", "refresh_s": 1.0, "seeds": 16, "requests": 100,
        "completed": 100, "left_out": 0, "reference": "cla_star", "ttft_ms": 900.0, "public": "llmd_topology",
        "public_seeds": 16, "waiting_percent": 4.4, "cached_percent": 6.0, "admission_ms": 12.0,
    }  # fmt: skip
    for prefix, percent, p in (("ttft_change", change, p_holm), ("public_change", public, public_p_holm)):
        row |= {f"{prefix}_percent": percent, f"{prefix}_low": percent - 1, f"{prefix}_high": percent + 1}
        row |= {f"{prefix}_detectable": 1.5, f"{prefix}_p_holm": p}
    nothing = {name: math.nan for name in row if name.startswith("public_change")}
    return pd.DataFrame(
        [{**row, "policy": "netkv_full"}, {**row, **nothing, "policy": "llmd_topology", "refresh_s": math.nan}]
    )


def test_sentences_count_gains_and_losses_after_the_correction() -> None:
    said = QUESTION.sentences(results(-8.0, 0.001, 2.0, 0.004))
    assert said[0] == (
        "netkv_full on rag in the analytic world: mean TTFT against cla_star, a gain in 1 of 1 regimes (incast -8.0 %"
        " [-9.0, -7.0])."
    )
    assert said[1] == (
        "netkv_full on rag in the analytic world: mean TTFT against the best public policy of each regime, chosen for"
        " each seed on all others, a loss in 1 of 1 regimes (incast +2.0 % [+1.0, +3.0] on llmd_topology)."
    )
    assert "by policy, 4 to 4 % in incast of the requests (16 seeds)" in said[2]


def test_an_interval_without_zero_is_no_gain_if_the_correction_says_so() -> None:
    said = QUESTION.sentences(results(-8.0, 0.001, -2.0, 0.2))
    assert "no significant difference in 1 of 1 regimes (incast -2.0 % [-3.0, -1.0] on llmd_topology)" in said[1]
    assert "a change of 1.5 % would have been seen there (80 % power)" in said[1]
