"""The hooks of a policy: what a small policy of a user's counts by them is what the dispatcher's own books hold."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest

from scenario import Scenario, WorkloadSpec
from scheduler import HOOKS, Candidates, Dispatcher, PolicyError, View
from scheduler.hooks import tokens_that_begin_a_block
from serving import POLICY_ERROR, Outcome
from simulator.analytic_world import AnalyticWorld
from tests.support.analytic_runs import small
from workloads import BLOCK_TOKENS, Request

BROKEN = "their:Policy"


class Counting:
    """The least loaded instance by its own count, which it holds against what it is shown."""

    def __init__(self) -> None:
        self.outstanding: Counter[int] = Counter()
        self.running: Counter[int] = Counter()
        self.told: dict[int, list[str]] = defaultdict(list)
        self.where: dict[int, int] = {}

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        numbers = candidates.decode_id.tolist()
        assert [self.outstanding[number] for number in numbers] == candidates.outstanding.tolist()
        assert [self.running[number] for number in numbers] == candidates.running.tolist()
        return candidates.best(candidates.outstanding)

    def placed(self, request: Request, decode_id: int) -> None:
        self.where[request.request_id] = decode_id
        self.outstanding[decode_id] += 1
        self._note("placed", request, decode_id)

    def transferred(self, request: Request, decode_id: int) -> None:
        self._note("transferred", request, decode_id)

    def admitted(self, request: Request, decode_id: int) -> None:
        self.running[decode_id] += 1
        self._note("admitted", request, decode_id)

    def token_block(self, request: Request, decode_id: int) -> None:
        self._note("token_block", request, decode_id)

    def finished(self, request: Request, decode_id: int) -> None:
        self.outstanding[decode_id] -= 1
        lives = self.told[request.request_id]
        self.running[decode_id] -= "admitted" in lives[len(lives) - lives[::-1].index("placed") :]
        self._note("finished", request, decode_id)

    def _note(self, step: str, request: Request, decode_id: int) -> None:
        assert self.where[request.request_id] == decode_id
        self.told[request.request_id].append(step)


def played(policy: Any, scenario: Scenario) -> Outcome:
    with AnalyticWorld(scenario, policy=policy) as world:
        return world.run(scenario)


def in_order(steps: list[str]) -> list[str]:
    """The steps without the blocks between."""
    return [step for step in steps if step != "token_block"]


def test_a_policy_that_counts_by_its_hooks_has_the_dispatchers_books() -> None:
    policy = Counting()
    outcome = played(policy, small(workload=WorkloadSpec(requests=200, speedup=2)))
    assert {record.status for record in outcome.requests} == {"completed"}
    assert {tuple(in_order(steps)) for steps in policy.told.values()} == {
        ("placed", "transferred", "admitted", "finished")
    }
    assert not any(policy.outstanding.values())
    assert not any(policy.running.values())


def test_each_block_that_an_answer_begins_is_told_after_its_admission() -> None:
    policy = Counting()
    outcome = played(policy, small(workload=WorkloadSpec(requests=200, speedup=2)))
    blocks = {record.request_id: record for record in outcome.requests}
    counts = Counter(len(steps) - len(in_order(steps)) for steps in policy.told.values())
    assert len(counts) > 1
    for number, steps in policy.told.items():
        record = blocks[number]
        before, after = (
            -(-tokens // BLOCK_TOKENS) for tokens in (record.input_length, record.input_length + record.output_length)
        )
        assert steps.count("token_block") == after - before
        assert in_order(steps[: steps.index("admitted")]) == ["placed", "transferred"]


def test_a_request_that_is_lost_or_tried_again_is_freed() -> None:
    faults = [{"at_s": at_s, "kind": "decode_worker_killed", "target": "h2", "for_s": 2.0} for at_s in (2.0, 6.0, 10.0)]
    for retry in (False, True):
        policy = Counting()
        changes: dict[str, Any] = {"faults": faults, "serving": {"retry": retry}}
        outcome = played(policy, Scenario.model_validate(small().model_dump(mode="json") | changes))
        lives = {record.request_id: in_order(policy.told[record.request_id]) for record in outcome.requests}
        assert any(lives[record.request_id].count("placed") == 1 + retry for record in outcome.requests)
        assert any(record.status == "failed" for record in outcome.requests) != retry
        assert all(steps.count("placed") == steps.count("finished") for steps in lives.values())
        assert all(steps[-1:] in ([], ["finished"]) for steps in lives.values())
        assert not any(policy.outstanding.values())


@pytest.mark.parametrize(
    ("prompt", "answer", "begins"),
    [
        (BLOCK_TOKENS, 1, [1]),
        (BLOCK_TOKENS - 1, 1, []),
        (BLOCK_TOKENS - 1, 2, [2]),
        (1, 2 * BLOCK_TOKENS, [BLOCK_TOKENS, 2 * BLOCK_TOKENS]),
    ],
)
def test_the_token_that_finds_its_block_full_begins_the_next(prompt: int, answer: int, begins: list[int]) -> None:
    assert list(tokens_that_begin_a_block(Request(0, 0.0, prompt, answer, (0,)))) == begins


class Breaks(Counting):
    """It fails at its fortieth request in one of its hooks."""

    def __init__(self, step: str, *, slowly: bool = False) -> None:
        super().__init__()
        self.step, self.slowly = step, slowly

    def _note(self, step: str, request: Request, decode_id: int) -> None:
        super()._note(step, request, decode_id)
        if step == self.step and request.request_id >= 40:
            while self.slowly:
                pass
            raise KeyError("rack")


@pytest.mark.parametrize("step", HOOKS)
def test_a_hook_that_fails_ends_the_run_with_its_name(step: str) -> None:
    outcome = played(Breaks(step), small(policy=BROKEN))
    assert f"policy {BROKEN} failed in {step} of request" in outcome.evidence[POLICY_ERROR]
    assert "KeyError: 'rack'" in outcome.evidence[POLICY_ERROR]
    assert {record.status for record in outcome.requests} == {"completed", "failed"}


def test_a_hook_that_does_not_return_is_ended() -> None:
    outcome = played(Breaks("admitted", slowly=True), small(policy=BROKEN, policy_limit_s=0.1))
    assert f"policy {BROKEN} took longer than 0.1 s in admitted of request" in outcome.evidence[POLICY_ERROR]


class OneHook:
    """Only `finished`, as a user's class may have it."""

    def __init__(self) -> None:
        self.over = 0

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        return candidates.best(candidates.tier)

    def finished(self, request: Request, decode_id: int) -> None:
        self.over += 1


def test_a_policy_is_told_only_what_it_asks_for() -> None:
    policy, scenario = OneHook(), small()
    played(policy, scenario)
    assert policy.over == 80
    asked = Request(0, 0.0, BLOCK_TOKENS, 3, (0,))
    assert not Dispatcher(scenario, *scenario.build(), policy).token_marks(asked)
    assert not Dispatcher(scenario, *scenario.build()).token_marks(asked)
    assert Dispatcher(scenario, *scenario.build(), Counting()).token_marks(asked)


def test_the_error_of_a_hook_is_the_policys() -> None:
    scenario = small(policy=BROKEN)
    fabric, roles = scenario.build()
    dispatcher = Dispatcher(scenario, fabric, roles, Breaks("placed"))
    with pytest.raises(PolicyError, match="failed in placed of request 41"):
        dispatcher.select(Request(41, 0.0, BLOCK_TOKENS, 3, (0,)), roles.prefill[0], 0.0)
