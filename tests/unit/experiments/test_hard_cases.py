"""The hard cases: that each is what it is named after, and what the sweep says of gains and losses in them."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pandas as pd
import pytest

from experiments.questions import QUESTIONS, SweepProfile
from experiments.questions.hard_cases import BLIND, CASES, REFERENCE, TOPOLOGY, case_of
from experiments.running import Condition, RunSpec
from scenario import load_requests
from scheduler import POLICIES, TELEMETRY_POLICIES
from simulator import AnalyticWorld

QUESTION = QUESTIONS["hard_cases"]


def spec_of(case: str, policy: str = "netkv_full", profile: str = "full") -> RunSpec:
    conditions = QUESTION.conditions(profile, [policy], ("analytic",), {"seed": 0})
    (spec,) = (condition.spec for condition in conditions if condition.labels["case"] == case)
    return spec


@pytest.mark.parametrize("case", CASES)
def test_a_case_is_read_back_from_its_specification_and_has_the_requests_of_all(case: str) -> None:
    assert case_of(spec_of(case)) == case
    assert load_requests(spec_of(case).scenario) == load_requests(spec_of("easy").scenario)


def test_cases_that_name_no_traffic_have_the_easy_ones() -> None:
    own = {"incast", "moving_rack", "two_tenants"}
    for case in set(CASES) - own:
        assert spec_of(case).congestion == spec_of("easy").congestion


def test_the_second_tenant_sends_as_often_as_we_do_for_as_long_as_a_transfer_and_from_afar() -> None:
    spec = spec_of("two_tenants")
    fabric, roles = spec.scenario.build()
    last_s = load_requests(spec.scenario)[-1].timestamp_s
    flows = [flow for flow in spec.scenario.background(fabric, roles, last_s) if 0 <= flow.start_s < last_s]
    assert len(flows) / last_s == pytest.approx(spec.workload.rate_rps, rel=0.15)
    assert sum(flow.stop_s - flow.start_s for flow in flows) / len(flows) == pytest.approx(0.2, rel=0.15)
    assert {flow.target for flow in flows} == set(roles.decode)
    assert all(fabric.tier(flow.source, flow.target) >= 2 and flow.rate_bps is None for flow in flows)
    assert spec.congestion.hot_spots == len(roles.prefill)


def test_incast_is_into_one_decode_instance_at_a_time() -> None:
    spec = spec_of("incast")
    fabric, roles = spec.scenario.build()
    flows = spec.scenario.background(fabric, roles, 30.0)
    by_start = {start: [flow for flow in flows if flow.start_s == start] for start in {flow.start_s for flow in flows}}
    assert all(len({flow.target for flow in at_once}) == 1 and len(at_once) == 14 for at_once in by_start.values())


def test_the_references_know_what_they_are_said_to_know() -> None:
    """Blind policies and those of topology read no telemetry, as NetKV-Static."""
    assert set(BLIND) | set(TOPOLOGY) | {REFERENCE} <= set(POLICIES) - set(TELEMETRY_POLICIES)
    assert {"netkv_full", "netkv_fresh"} <= set(TELEMETRY_POLICIES)


def results(change: float, p_holm: float) -> pd.DataFrame:
    row = {
        "world": "analytic", "workload": "rag", "case": "noisy", "refresh_s": 1.0, "seeds": 8, "requests": 100,
        "completed": 100, "left_out": 0, "reference": REFERENCE, "ttft_ms": 900.0, "kv_transfer_ms": 90.0,
        "public": "least_loaded", "public_seeds": 8,
    }  # fmt: skip
    for prefix, percent, p in (("telemetry_change", change, p_holm), ("public_change", -9.0, 0.001)):
        row |= {f"{prefix}_percent": percent, f"{prefix}_low": percent - 1, f"{prefix}_high": percent + 1}
        row |= {f"{prefix}_detectable": 1.5, f"{prefix}_p_holm": p}
    static = {f"telemetry_change_{end}": math.nan for end in ("percent", "low", "high", "detectable", "p_holm")}
    return pd.DataFrame([{**row, "policy": "netkv_full"}, {**row, **static, "policy": REFERENCE, "refresh_s": None}])


@pytest.mark.parametrize(
    ("change", "p_holm", "said"),
    [
        (2.0, 0.004, "a loss in 1 of 1 cases (noisy +2.0 % [+1.0, +3.0])"),
        (-2.0, 0.004, "a gain in 1 of 1 cases (noisy -2.0 % [-3.0, -1.0])"),
        (2.0, 0.2, "no significant difference in 1 of 1 cases (noisy +2.0 % [+1.0, +3.0]); a change of 1.5 % would"),
    ],
)
def test_sentences_count_gains_and_losses_after_the_correction(change: float, p_holm: float, said: str) -> None:
    told = QUESTION.sentences(results(change, p_holm))
    assert told[0].startswith(f"netkv_full on rag in the analytic world: mean TTFT against {REFERENCE}, {said}")
    assert told[1].startswith(
        "netkv_full on rag in the analytic world: mean TTFT against the best public policy that knows neither topology"
        " nor telemetry, a gain in 1 of 1 cases"
    )
    assert told[2].startswith(f"{REFERENCE} on rag in the analytic world: mean TTFT against the best public policy")


def test_runs_that_are_the_same_are_judged_once() -> None:
    """A policy without telemetry decides in the cases of telemetry as in the easy one: no p-value, the same figures."""
    question = replace(QUESTION, profiles={"tiny": SweepProfile((0, 1), TINY, axes={"case": ("easy", "noisy")})})
    found = question.results(pd.concat(map(frame, question.conditions("tiny", POLICIES_OF_TEST, ("analytic",), {}))))
    rows = found.set_index(["policy", "case"])
    assert rows.loc[(REFERENCE, "easy"), "public_change_p"] >= 0
    assert math.isnan(rows.loc[(REFERENCE, "noisy"), "public_change_p"])
    changes = [rows.loc[(REFERENCE, case), "public_change_percent"] for case in ("easy", "noisy")]
    assert changes[0] == changes[1]
    assert found["telemetry_change_percent"].notna().tolist() == (found["policy"] == "netkv_full").tolist()
    assert rows.loc[("netkv_full", "noisy"), "telemetry_change_percent"] == pytest.approx(
        rows.loc[("netkv_full", "noisy"), "ttft_change_percent"]
    )


TINY = {"workload.requests": 20, "workload.max_output_tokens": 4, "workload.max_input_tokens": 8192}
POLICIES_OF_TEST = ("round_robin", REFERENCE, "netkv_full")


def frame(condition: Condition) -> pd.DataFrame:
    """The requests of one run as `read_sweep` has them."""
    spec = condition.spec
    with AnalyticWorld(spec.scenario, spec.simulation) as world:
        records = world.run(spec.scenario).requests
    return pd.DataFrame([asdict(record) for record in records]).assign(
        **condition.labels, run=condition.name, verdict="valid", slo_met=True, snapshots=9.0, correlation_s=1.25
    )
