"""`specs/paper.yaml`, the set-up of arXiv 2606.03910v1 as far as it is known, in the analytic world."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.published import PAPER_TRAFFIC, paper_set_up, published_facts
from experiments.running import make_spec, read_spec
from scenario import Scenario, load_requests
from serving import RequestRecord
from tests.support.analytic_runs import run
from tests.support.paths import ROOT

FACTS = published_facts()
POLICIES = ("round_robin", "cla_star", "paper_full")


def scenario(policy: str, **changes: float) -> Scenario:
    few = {"workload.requests": 300, "policy": policy}
    return read_spec(ROOT / "specs" / "paper.yaml", few | changes).scenario


def test_sweeps_in_the_papers_set_up_run_what_its_specification_says() -> None:
    theirs = make_spec({}, {**paper_set_up(), **PAPER_TRAFFIC}).model_dump()
    ours = read_spec(ROOT / "specs" / "paper.yaml", {}).model_dump()
    for part in ("fabric", "model", "slo", "serving", "congestion"):
        assert theirs[part] == ours[part]
    assert {name for name, value in theirs["workload"].items() if value != ours["workload"][name]} == {"requests"}


@pytest.fixture(scope="module")
def requests() -> dict[str, list[RequestRecord]]:
    return {policy: run(scenario(policy)).requests for policy in POLICIES}


def mean(records: list[RequestRecord], column: str) -> float:
    return float(np.mean([getattr(record, column) for record in records]))


def test_the_fabric_has_the_papers_instances_and_bandwidths() -> None:
    fabric = scenario("round_robin").fabric
    assert (fabric.gpus, fabric.gpus_per_instance) == (FACTS["gpus"].value, FACTS["gpus_per_instance"].value)
    for tier in range(4):
        assert fabric.tier_rate_bps(tier) / 8e9 == FACTS[f"bandwidth_of_tier_{tier}"].value


def test_the_mean_prompt_is_the_one_that_was_inferred() -> None:
    lengths = [
        request.input_length for request in load_requests(scenario("round_robin", **{"workload.requests": 4000}))
    ]
    assert np.mean(lengths) == pytest.approx(FACTS["mean_prompt"].value, rel=0.05)


@pytest.mark.parametrize("policy", POLICIES)
def test_no_transfer_stays_in_a_rack(requests: dict[str, list[RequestRecord]], policy: str) -> None:
    assert {record.tier for record in requests[policy]} == {2, 3}


@pytest.mark.parametrize("policy", POLICIES)
def test_ttft_less_transfer_is_the_same_for_every_policy(requests: dict[str, list[RequestRecord]], policy: str) -> None:
    rest_ms = mean(requests[policy], "ttft_ms") - mean(requests[policy], "kv_transfer_ms")
    base_ms = mean(requests["round_robin"], "ttft_ms") - mean(requests["round_robin"], "kv_transfer_ms")
    assert rest_ms == pytest.approx(base_ms, rel=0.03)
    assert mean(requests[policy], "queue_ms") == 0


def test_the_order_of_the_policies_is_the_papers(requests: dict[str, list[RequestRecord]]) -> None:
    round_robin, cla_star, full = (mean(requests[policy], "kv_transfer_ms") for policy in POLICIES)
    assert full < cla_star < round_robin


def test_a_third_of_round_robins_requests_stays_in_the_pod(requests: dict[str, list[RequestRecord]]) -> None:
    assert np.mean([record.tier == 2 for record in requests["round_robin"]]) == pytest.approx(1 / 3, abs=0.01)
