"""Seeded chaos: the first dozen runs of `make chaos`, and that a plan is its seed, shrinks to what matters, goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from experiments.running import SpecError, make_spec
from experiments.running.run_process import FinishedRun
from experiments.running.world_runner import WorldRunner
from scenario import EMULATED_ONLY, FAULT_KINDS
from tests.support.chaos.campaign import Journal, campaign, command, summary, told
from tests.support.chaos.plans import EVENTS, Plan, plan_of
from tests.support.chaos.shrinking import shrink, smaller_than
from tests.support.chaos.trial import Runner, Trial, chaos_runner, try_plan
from tests.support.fuzzing.target import HangError

GOOD, BAD = Trial(3, "valid", ()), Trial(3, "valid", ("kv_bytes: request 1: found 1, expected 2",))

ONCE_WRONG = (10, 106, 121)
"""Seeds whose runs once ended in a traceback: the summary of a run that lost its first requests."""


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with chaos_runner() as made:
        yield made


@pytest.mark.parametrize("seed", [*range(12), *ONCE_WRONG])
def test_the_history_of_a_run_in_which_things_fail_holds(seed: int, runner: Runner) -> None:
    trial = try_plan(plan_of(seed), runner)
    assert trial.wrong == (), told(seed, "analytic", trial)


# A plan is its seed


def test_a_plan_is_its_seed_and_a_specification() -> None:
    for world in ("analytic", "emulated"):
        plans = [plan_of(seed, world) for seed in range(40)]
        assert plans == [plan_of(seed, world) for seed in range(40)]
        assert len({json.dumps(plan) for plan in plans}) == 40
        specs = [make_spec({}, plan) for plan in plans]
        kinds = {kind for spec in specs for kind in spec.faults.kinds}
        assert kinds == {kind for kind in FAULT_KINDS if world == "emulated" or kind not in EMULATED_ONLY}
        assert all(spec.faults.events for spec in specs)


def test_emulated_runs_share_one_fabric() -> None:
    assert len({make_spec({}, plan_of(seed, "emulated")).fabric for seed in range(20)}) == 1


def test_a_run_is_its_plan() -> None:
    def files() -> dict[str, bytes]:
        with WorldRunner() as runner:
            return {
                name: data for name, data in runner.run(make_spec({}, plan_of(1))).files.items() if "meas" not in name
            }

    assert files() == files()


# What a trial notices


class Broken:
    """A runner that does not end well."""

    def __init__(self, problem: BaseException) -> None:
        self._problem = problem

    def run(self, spec: Any) -> FinishedRun:
        raise self._problem


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (ValueError("two\nlines"), "ValueError: two lines"),
        (SpecError("faults: wrong"), "SpecError: faults: wrong"),
        (HangError(), "hang: not done after 60 s"),
    ],
)
def test_an_error_or_a_hang_is_wrong_like_a_violation(problem: BaseException, said: str) -> None:
    trial = try_plan(plan_of(0), Broken(problem))
    assert trial.wrong == (said,)
    assert trial.sort == said.split(":")[0]


def test_a_violation_is_wrong(runner: Runner) -> None:
    class Liar:
        def run(self, spec: Any) -> FinishedRun:
            made = runner.run(spec)
            summary = json.loads(made.files["summary.json"])
            summary["completed"] += 1
            files = {**made.files, "summary.json": json.dumps(summary).encode()}
            return FinishedRun(files, made.verdict, made.took_s, made.wall_s)

    trial = try_plan(plan_of(1), Liar())
    assert trial.sort == "summary_counts"
    assert trial.faults > 0


# The smallest plan


def events(*kinds: str) -> list[dict[str, Any]]:
    return [{"at_s": at + 0.25, "kind": kind, "target": "h1", "for_s": 1.5} for at, kind in enumerate(kinds)]


def plan(*kinds: str, **more: Any) -> Plan:
    made = {"world": "analytic", "seed": 1, "policy": "cla", "workload.requests": 60, EVENTS: events(*kinds)}
    return {**made, **{name.replace("__", "."): value for name, value in more.items()}}


def test_of_many_faults_the_two_that_are_wrong_together_are_left() -> None:
    kinds = ["link_down"] * 4 + ["switch_down"] + ["telemetry_frozen"] * 3 + ["decode_worker_killed"] * 2
    given = plan(*kinds, serving__retry=True, oracle__delay_s=0.7)

    def wrong(smaller: Plan) -> bool:
        found = [event["kind"] for event in smaller[EVENTS]]
        return {"switch_down", "decode_worker_killed"} <= set(found) and smaller.get("serving.retry") is True

    best, tried = shrink(given, wrong)
    assert [event["kind"] for event in best[EVENTS]] == ["switch_down", "decode_worker_killed"]
    assert set(best) == {"world", "seed", "policy", "workload.requests", EVENTS, "serving.retry"}
    assert (best["workload.requests"], best["policy"]) == (1, "round_robin")
    assert all(event["at_s"] == round(event["at_s"]) and "for_s" not in event for event in best[EVENTS])
    assert tried < 60


def test_no_single_step_makes_the_smallest_plan_smaller() -> None:
    def wrong(smaller: Plan) -> bool:
        return sum(event["kind"] == "link_down" for event in smaller[EVENTS]) >= 2 and smaller["workload.requests"] > 7

    best, _ = shrink(plan(*["link_down", "switch_down"] * 5), wrong)
    assert not any(wrong(smaller) for smaller in smaller_than(best))
    assert (len(best[EVENTS]), best["workload.requests"]) == (2, 8)


def test_what_is_wrong_without_any_fault_is_left_without_one() -> None:
    assert shrink(plan("link_down", "link_down"), lambda smaller: True)[0][EVENTS] == []


def test_shrinking_ends_when_its_trials_are_used_up() -> None:
    best, tried = shrink(plan(*["link_down"] * 12), lambda smaller: bool(smaller[EVENTS]), most_trials=3)
    assert tried == 3
    assert len(best[EVENTS]) < 12


# A campaign


def test_a_campaign_goes_on_where_it_was_ended_and_tells_what_was_wrong(tmp_path: Path) -> None:
    place, tried, said = tmp_path / "chaos" / "journal.jsonl", [], []

    def attempt(made: Plan) -> Trial:
        tried.append(made["seed"])
        return BAD if made["seed"] == 2 else GOOD

    ticks = count()
    wrong = campaign(range(6), "analytic", Journal.read(place, "one"), attempt, lambda: next(ticks) < 2, said.append)
    assert (tried, wrong, said) == ([0, 1], [], [])
    with place.open("a") as file:
        file.write('{"seed": 2, "code": "one", "fau')  # whatever ended its writer
    journal = Journal.read(place, "one")
    assert sorted(journal.done) == [0, 1]
    assert campaign(range(6), "analytic", journal, attempt, lambda: True, said.append) == [2]
    assert set(tried[2:]) == {2, 3, 4, 5}
    assert said[0] == f"seed 2: {BAD.wrong[0]}\n  python -m tests.bench.chaos --world analytic --at 2"
    assert "netkv run --world analytic --policy round_robin --seed 2" in said[1]
    again = Journal.read(place, "one")
    assert again.done == {seed: BAD if seed == 2 else GOOD for seed in range(6)}
    assert campaign(range(6), "analytic", again, attempt, lambda: True, said.append) == [2], "told until it is right"
    assert summary(range(8), again) == "6 runs with 18 faults; 1 wrong: seeds 2; verdicts: 6 valid, 2 left"


def test_what_other_code_has_run_is_run_again(tmp_path: Path) -> None:
    place = tmp_path / "journal.jsonl"
    Journal.read(place, "one").add(4, BAD)
    assert Journal.read(place, "other").done == {}
    assert Journal.read(place, "one").done == {4: BAD}


def test_the_smallest_plan_is_a_command_that_the_command_line_takes() -> None:
    text = command(plan("link_down", oracle__refresh_s="never"))
    assert text == (
        "netkv run --world analytic --policy cla --seed 1 --set workload.requests=60 --set"
        ' \'faults=[{"at_s": 0.25, "kind": "link_down", "target": "h1", "for_s": 1.5}]\' --set oracle.refresh_s=never'
        " --out DIR && netkv check DIR"
    )
