"""NVIDIA Dynamo's own router as a policy: its choices by its own loads, its books by ours, and our reading of it."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments.cli import app
from routers import DynamoRouter, DynamoRouterNetkv, DynamoRouterTopology
from routers.selection_service import SelectionPool
from scenario import Scenario
from scheduler import Candidates, View, new_policy
from scheduler.policies.dynamo_decode import decode_blocks
from serving import UNREPEATABLE, Outcome
from simulator.analytic_world import AnalyticWorld
from workloads import Request

DECISIONS = 1_200
BUSY: dict[str, Any] = {"workload": {"requests": DECISIONS, "speedup": 2.0}}
"""Several requests at each instance, so that loads differ and ties are few."""

ROUNDING = 1e-5
"""Of a weight, which Dynamo keeps in 32 bits."""


class Watched:
    """Asks a real router, and notes beside every choice what each instance would have cost by its own count."""

    def __init__(self, router: DynamoRouter, *, factor: Any = None) -> None:
        self.router = router
        self.factor = factor
        self.costs: list[tuple[float, float]] = []
        self.ties = 0
        self.counted: Counter[int] = Counter()
        self.partial: list[Any] = []
        self.unlike = 0
        for hook in ("transferred",):
            setattr(self, hook, getattr(router, hook))
        if hasattr(router, "token_block"):
            self.token_block = self._token_block
        self.held: dict[int, tuple[int, int]] = {}

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        own = request.input_length // request.block_tokens
        before = self.router.decode_blocks()
        numbers = candidates.decode_id.tolist()
        assert {number: before.get(number, 0) for number in numbers} == {n: self.counted[n] for n in numbers}
        blocks = np.array([before.get(number, 0) + own for number in numbers], dtype=float)
        cost = blocks * (1.0 if self.factor is None else self.factor(request, candidates, view))
        chosen = self.router.select(request, candidates, view)
        least = cost[candidates.feasible].min()
        self.costs.append((float(cost[numbers.index(chosen)]), float(least)))
        self.ties += int(np.count_nonzero(cost <= least) > 1)
        self._compare(request, candidates, chosen, blocks)
        return chosen

    def _compare(self, request: Request, candidates: Candidates, chosen: int, blocks: Any) -> None:
        """Hold the choice against our preset `dynamo_decode`."""
        preset = decode_blocks(request, candidates)
        least = preset[candidates.feasible].min()
        self.unlike += bool(preset[candidates.decode_id == chosen][0] > least)
        self.partial.append((preset - blocks, candidates.outstanding.copy()))

    def placed(self, request: Request, decode_id: int) -> None:
        self.router.placed(request, decode_id)
        self.held[request.request_id] = decode_id, request.input_length // request.block_tokens
        self.counted[decode_id] += self.held[request.request_id][1]

    def _token_block(self, request: Request, decode_id: int) -> None:
        self.router.token_block(request, decode_id)
        at, blocks = self.held[request.request_id]
        self.held[request.request_id] = at, blocks + 1
        self.counted[decode_id] += 1

    def finished(self, request: Request, decode_id: int) -> None:
        self.router.finished(request, decode_id)
        at, blocks = self.held.pop(request.request_id)
        assert at == decode_id
        self.counted[at] -= blocks


def played(policy: Any, **changes: Any) -> Outcome:
    scenario = Scenario.model_validate({"policy": "dynamo_router", **BUSY, **changes})
    with AnalyticWorld(scenario, policy=policy) as world:
        return world.run(scenario)


def assert_least(watched: Watched, rounding: float = 0.0) -> None:
    """Every choice was one of those that cost least, and the books are empty in the end."""
    assert len(watched.costs) >= 1_000
    assert [pair for pair in watched.costs if pair[0] > pair[1] * (1 + rounding)] == []
    assert watched.ties < len(watched.costs) / 2
    assert not any(watched.router.decode_blocks().values())
    assert not watched.held


@pytest.mark.parametrize("output_blocks", [0.0, 1.0])
def test_every_choice_has_the_least_blocks_by_the_routers_own_count(output_blocks: float) -> None:
    watched = Watched(DynamoRouter(output_blocks=output_blocks))
    outcome = played(watched)
    assert {record.status for record in outcome.requests} == {"completed"}
    assert_least(watched)


def test_the_router_knows_all_its_workers_before_it_is_asked() -> None:
    """It learns of them after it has been told: in a third of fresh pools some were missing at first."""
    for _ in range(20):
        pool = SelectionPool()
        for worker_id in range(32):
            pool.add_worker(worker_id, 512)
        pool.await_workers(32)
        assert pool.decode_blocks() == dict.fromkeys(range(32), 0)


def test_our_preset_differs_by_the_unfilled_blocks_of_prompts_and_by_nothing_else() -> None:
    """It adds prompts up before it divides, so that what is left of each counts, too: less than a block a request."""
    watched = Watched(DynamoRouter())
    played(watched)
    for more, outstanding in watched.partial:
        assert ((more >= 0) & (more <= outstanding)).all()
    print(f"in {watched.unlike} of {len(watched.partial)} decisions the choice is not one of the preset's least")
    assert 0 < watched.unlike < len(watched.partial) / 4


def test_what_the_network_loses_is_freed_and_what_is_dead_is_not_chosen() -> None:
    watched = Watched(DynamoRouter(output_blocks=1.0))
    faults = [{"at_s": 10.0 * n, "kind": "decode_worker_killed", "target": f"h{number}", "for_s": 8.0} for n, number in
              enumerate((2, 3, 6, 7, 10, 11), start=1)]  # fmt: skip
    outcome = played(watched, faults=faults, serving={"retry": True})
    assert any(row["requests_retried"] for row in outcome.faults)
    assert_least(watched)


def test_a_preferred_domain_multiplies_the_cost() -> None:
    def factor(request: Request, candidates: Candidates, view: View) -> Any:
        return np.where(candidates.tier <= 1, math.exp(-math.tanh(0.85)), 1.0)

    watched = Watched(DynamoRouterTopology(), factor=factor)
    played(watched)
    assert_least(watched, ROUNDING)


def test_a_required_domain_leaves_nobody_else() -> None:
    outcome = played(DynamoRouterTopology(required=1.0, domain=2.0))
    assert {record.tier for record in outcome.requests} == {1, 2}


def test_where_a_required_domain_has_nobody_the_request_is_turned_away() -> None:
    outcome = played(DynamoRouterTopology(required=1.0, domain=0.0), workload={"requests": 20})
    assert {record.status for record in outcome.requests} == {"rejected"}
    assert all(record.error.startswith("Dynamo's router: ") for record in outcome.requests)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0])
def test_netkvs_costs_reach_the_choice_as_weights(sharpness: float) -> None:
    router = DynamoRouterNetkv(sharpness=sharpness)
    watched = Watched(router, factor=router.cost_factor)
    played(watched, congestion={"kind": "hotspot"})
    assert_least(watched, 10 * ROUNDING)


@pytest.mark.parametrize("policy", ["dynamo_router", "dynamo_router_topology", "dynamo_router_netkv"])
def test_a_run_says_that_it_does_not_repeat(policy: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["run", "--world", "analytic", "--policy", policy, "--requests", "40", "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["evidence"][UNREPEATABLE] == DynamoRouter.unrepeatable
    assert manifest["versions"]["ai-dynamo-runtime"] == "1.6.1"


def test_it_is_found_by_name_with_its_parameters() -> None:
    made = new_policy("dynamo_router_topology", {"preferred": 1.5, "domain": 2})
    assert isinstance(made, DynamoRouterTopology)
