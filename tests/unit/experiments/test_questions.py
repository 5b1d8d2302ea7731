"""The questions of `netkv sweep`: which runs each is made of, what labels them, and what a user may change."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import pytest

from experiments.questions import QUESTIONS, Question
from experiments.questions.question import TUNED_CLA_STAR, note_on
from experiments.running import Condition
from experiments.running.errors import SpecError
from scheduler.policy import POLICIES, TELEMETRY_POLICIES
from tests.support.paths import ROOT
from workloads import PROFILES as WORKLOADS

pytestmark = pytest.mark.xdist_group("planned questions")
"""On one processor: what many tests look at is planned once."""

AXES = {
    "staleness": ["congestion"],
    "staleness_map": ["time_scale_s"],
    "topology": ["tor_oversubscription", "aggregation_oversubscription"],
    "prefix": ["sharing"],
    "ablation": [],
    "scale": ["gpus"],
    "regimes": ["regime"],
    "faults": ["faults"],
    "hard_cases": ["case"],
}
QUICK_RUNS = {  # emulated, analytic
    "staleness": (18 + 2, 18 + 2),
    "staleness_map": (12, 16),
    "topology": (4 * 3, 9 * 4 * 5 * 3),
    "prefix": (3 * 3, 5 * 5 * 3),
    "ablation": (3 * 5, 4 * 5 * 5),
    "scale": (2 * 3, 5 * 5 * 3),
    "regimes": (2 * 9, 16 * 9 * 11),
    "faults": (4 * 4, 5 * 8 * 16),
    "hard_cases": (4 * 4, 9 * 8 * 8),
}
MOST_ON_PACKETS = 20
"""Runs of about 23 s of a quick sweep that is meant to end within eight minutes."""

asked = pytest.mark.parametrize("question", QUESTIONS.values(), ids=list(QUESTIONS))


def runs(question: Question, world: str = "analytic", profile: str = "quick", **changes: Any) -> Any:
    """The conditions of a question's own policies, but for a control run; `__` stands for the dot in a field's name."""
    if not changes:
        return planned(question.name, world, profile)
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return without_control(question.conditions(profile, question.policies, (world,), dotted))


@cache
def planned(name: str, world: str, profile: str) -> list[Condition]:
    return without_control(QUESTIONS[name].conditions(profile, QUESTIONS[name].policies, (world,), {}))


def without_control(made: Sequence[Condition]) -> list[Condition]:
    return [condition for condition in made if "control" not in condition.labels]


def test_every_question_is_found_by_its_name() -> None:
    assert list(QUESTIONS) == list(AXES)
    assert all(question.name == name for name, question in QUESTIONS.items())


def regime_by_hand(spec: Any) -> str:
    """What a specification differs from the default in."""
    if spec.serving.batch_slots < 64:
        return "decode_slots"
    if spec.serving.kv_memory_tokens < 400_000:
        return "decode_memory"
    if spec.workload.warm_requests:
        return "warm_caches"
    if spec.serving.placement != "segregated":
        return "racks_apart"
    by_kind = {"incast": "incast", "shuffle": "shuffle", "hotspot": "moving_rack"}
    return by_kind.get(spec.congestion.kind) or ("hot_spots" if spec.congestion.hot_spots > 1 else "baseline")


def case_by_hand(spec: Any) -> str:
    """The hard case that a specification is."""
    oracle, congestion = spec.oracle, spec.congestion
    if spec.faults.random.rate:
        return "link_unseen"
    if congestion.kind != "onoff":
        return {"incast": "incast", "hotspot": "moving_rack"}.get(congestion.kind, "")
    if congestion.hot_spots == 8:
        return "two_tenants"
    polled = {1.0: "sonic_ports", 10.0: "sonic_queues"}.get(oracle.poll_s, "")
    return polled or ("noisy" if oracle.noise else "lost" if oracle.loss else "easy")


def faults_by_hand(spec: Any) -> str:
    """What a specification has break."""
    frozen = [event.kind for event in spec.faults.events] == ["telemetry_frozen"]
    drawn = set(spec.faults.random.kinds) if spec.faults.random.rate else set()
    names = {(False, ()): "none", (True, ()): "telemetry_loss", (False, ("link_down",)): "link_down"}
    names |= {(True, ("link_down",)): "link_stale", (False, ("decode_worker_killed",)): "worker_loss"}
    return names[frozen, tuple(drawn)]


# Runs and their labels


def test_the_main_job_makes_its_first_emulated_run_twice() -> None:
    staleness = QUESTIONS["staleness"]
    made = staleness.conditions("quick", staleness.policies, ("emulated",), {})
    first, control = made[0], made[-1]
    assert (control.name, control.spec) == (f"{first.name}-control", first.spec)
    assert control.labels == {**first.labels, "control": True}
    for world, changes in (("analytic", {}), ("emulated", {"seed": 1})):
        assert not any("control" in one.labels for one in staleness.conditions("quick", ("ca",), (world,), changes))


@asked
@pytest.mark.parametrize("profile", ["quick", "full"])
@pytest.mark.parametrize("world", ["emulated", "analytic"])
def test_labels_are_what_the_specification_says(question: Question, profile: str, world: str) -> None:
    made = runs(question, world, profile)
    assert len({condition.name for condition in made}) == len(made)
    for condition in made:
        labels, spec = condition.labels, condition.spec
        assert list(labels) == ["world", "workload", "seed", "refresh_s", *AXES[question.name]]
        assert (labels["world"], labels["workload"], labels["seed"]) == (world, spec.workload.profile, spec.seed)
        refresh = spec.oracle.model_dump(mode="json")["refresh_s"] if spec.policy in TELEMETRY_POLICIES else None
        assert labels["refresh_s"] == refresh
        axes = {
            "congestion": spec.congestion.kind,
            "time_scale_s": getattr(spec.congestion, {"hotspot": "period_s"}.get(spec.congestion.kind, "mean_off_s")),
            "tor_oversubscription": spec.fabric.tor_oversubscription,
            "aggregation_oversubscription": spec.fabric.aggregation_oversubscription,
            "sharing": spec.workload.sharing,
            "gpus": spec.fabric.gpus,
            "regime": regime_by_hand(spec),
            "faults": faults_by_hand(spec),
            "case": case_by_hand(spec),
        }
        assert {name: labels[name] for name in AXES[question.name]} == {
            name: axes[name] for name in AXES[question.name]
        }
        assert json.loads(json.dumps(dict(labels), allow_nan=False)) == dict(labels)


@asked
def test_quick_ends_in_minutes_and_full_has_five_seeds(question: Question) -> None:
    assert (len(runs(question, "emulated")), len(runs(question))) == QUICK_RUNS[question.name]
    assert len(runs(question, "emulated")) <= MOST_ON_PACKETS
    for world in ("emulated", "analytic"):
        seeds = {run.spec.seed for run in runs(question, world, "full")}
        assert seeds == set(range(8 if (question.name, world) == ("hard_cases", "analytic") else 5))


@asked
@pytest.mark.parametrize("profile", ["quick", "full"])
def test_packets_carry_a_part_of_the_same_runs(question: Question, profile: str) -> None:
    scenarios = [condition.spec.scenario for condition in runs(question, "analytic", profile)]
    assert all(condition.spec.scenario in scenarios for condition in runs(question, "emulated", profile))


@asked
def test_the_reference_is_run_beside_every_run(question: Question) -> None:
    def place(labels: Any) -> tuple[Any, ...]:
        return tuple(value for name, value in labels.items() if name != "refresh_s")

    by_policy: dict[str, set[Any]] = {}
    for condition in (one for one in runs(question) if one.labels.get("congestion") != "constant"):
        by_policy.setdefault(condition.spec.policy, set()).add(place(condition.labels))
    assert set(question.references) <= set(by_policy) == set(question.policies)
    assert all(places == by_policy[question.references[0]] for places in by_policy.values())


@asked
def test_every_public_router_can_be_added(question: Question) -> None:
    made = question.conditions("quick", list(POLICIES), ("analytic",), {"seed": 0})
    assert {condition.spec.policy for condition in made} == set(POLICIES)


# What is particular


def test_the_heat_map_has_every_pair_of_ratios_for_every_workload() -> None:
    made = runs(QUESTIONS["topology"])
    ratios = (1.0, 2.0, 4.0)
    found = {(run.labels["workload"], *(run.labels[name] for name in AXES["topology"])) for run in made}
    assert found == set(product(WORKLOADS, ratios, ratios))
    assert len(runs(QUESTIONS["topology"], "emulated")) == 2 * 2 * 3


@pytest.mark.parametrize("workload", WORKLOADS)
def test_every_workload_lasts_as_long_at_its_own_rate(workload: str) -> None:
    made = [run.spec for run in runs(QUESTIONS["ablation"]) if run.labels["workload"] == workload]
    assert {spec.workload.requests for spec in made} == {-(-20 * WORKLOADS[workload].rate_rps // 1)}
    assert {spec.slo.ttft_s for spec in made} == {WORKLOADS[workload].ttft_s}


def test_a_workload_of_the_users_own_lasts_as_long_unless_requests_are_counted() -> None:
    made = runs(QUESTIONS["topology"], workload__profile="chatbot")
    assert {run.spec.workload.requests for run in made} == {320}
    counted = runs(QUESTIONS["topology"], workload__profile="chatbot", workload__requests=7)
    assert {run.spec.workload.requests for run in counted} == {7}


def test_load_and_congestion_grow_with_the_fabric() -> None:
    made = [run.spec for run in runs(QUESTIONS["scale"])]
    for spec in made:
        factor = spec.fabric.gpus / 64
        assert (spec.workload.requests, spec.workload.speedup) == (75 * factor, factor)
        assert (spec.congestion.hot_spots, spec.fabric.pods) == (factor, 2 * factor)
    assert sorted({spec.fabric.gpus for spec in made}) == [64, 128, 256, 512, 1024]
    assert {run.spec.fabric.gpus for run in runs(QUESTIONS["scale"], "emulated", "full")} == {64, 128}


def test_packets_of_both_sizes_go_at_half_speed_unless_told() -> None:
    made = runs(QUESTIONS["scale"], "emulated")
    assert {(run.spec.fabric.gpus, run.spec.emulation.time_dilation) for run in made} == {(64, 2.0), (128, 2.0)}
    told = runs(QUESTIONS["scale"], "emulated", emulation__time_dilation=3)
    assert {run.spec.emulation.time_dilation for run in told} == {3.0}


def test_requests_of_the_users_own_are_those_of_the_smallest_fabric() -> None:
    made = runs(QUESTIONS["scale"], workload__requests=10, workload__speedup=2)
    assert {(run.labels["gpus"], run.spec.workload.requests, run.spec.workload.speedup) for run in made} == {
        (64 * factor, 10 * factor, 2 * factor) for factor in (1, 2, 4, 8, 16)
    }


@pytest.mark.parametrize("workload", WORKLOADS)
def test_cla_star_has_the_weights_that_the_search_found(workload: str) -> None:
    name = "cla_star.json" if workload == "conversation" else f"cla_star_{workload}.json"
    report = json.loads((ROOT / "docs/tune" / name).read_text())
    assert (report["workload"], report["winner"]) == (workload, TUNED_CLA_STAR[workload])
    evaluated, searched = report["evaluation"], report["slice"]
    assert searched["first_request"] >= evaluated["first_request"] + evaluated["requests"]
    assert min(searched["seeds"]) > 4  # no sweep uses them
    for run in runs(QUESTIONS["ablation"]):
        if run.labels["workload"] == workload and run.spec.policy == "cla_star":
            assert run.spec.policy_parameters == {"cla_star": report["winner"]}
        elif run.spec.policy != "cla_star":
            assert run.spec.policy_parameters == {}


def test_weights_of_the_users_own_are_kept() -> None:
    given = runs(QUESTIONS["ablation"], policy_parameters__cla_star__queue=3.0)
    assert {str(run.spec.policy_parameters) for run in given} == {"{'cla_star': {'queue': 3.0}}"}


# What a user may change


@pytest.mark.parametrize(
    ("question", "field", "value", "label"),
    [
        ("topology", "fabric.tor_oversubscription", 3, "tor_oversubscription"),
        ("topology", "fabric.aggregation_oversubscription", 3, "aggregation_oversubscription"),
        ("staleness", "oracle.refresh_s", 3, "refresh_s"),
        ("staleness", "congestion.kind", "incast", "congestion"),
        ("staleness_map", "oracle.refresh_s", 3, "refresh_s"),
        ("ablation", "workload.profile", "rag", "workload"),
        ("prefix", "workload.profile", "chatbot", "workload"),
        ("prefix", "workload.sharing", 0.4, "sharing"),
        ("scale", "seed", 3, "seed"),
    ],
)
def test_a_value_of_the_users_own_replaces_the_profiles(question: str, field: str, value: Any, label: str) -> None:
    made = QUESTIONS[question].conditions("quick", QUESTIONS[question].policies, ("analytic",), {field: value})
    assert {run.labels[label] for run in made if run.labels[label] is not None} == {value}
    assert len(made) < len(runs(QUESTIONS[question])) or question in ("prefix",)


@pytest.mark.parametrize(
    ("question", "changes", "complaint"),
    [
        ("scale", {"fabric.pods": 4}, "fabric.pods: the sweep varies it"),
        ("scale", {"fabric.racks_per_pod": 3}, "fabric: pods of 48 GPUs do not add up to 64"),
        ("staleness_map", {"congestion.kind": "incast"}, "congestion.kind: the sweep varies it"),
        ("staleness_map", {"congestion.mean_on_s": 2}, "congestion.mean_on_s: the sweep varies it"),
        ("staleness_map", {"congestion.period_s": 2}, "congestion.period_s: the sweep varies it"),
        ("regimes", {"serving.batch_slots": 9}, "serving.batch_slots: the sweep varies it"),
        ("regimes", {"congestion.kind": "incast"}, "congestion.kind: the sweep varies it"),
        ("faults", {"faults.random.rate": 1.0}, "faults.random.rate: the sweep varies it"),
        ("faults", {"faults": []}, "faults: the sweep varies it"),
        ("hard_cases", {"oracle.loss": 0.5}, "oracle.loss: the sweep varies it"),
        ("prefix", {"workload.trace": "/dev/null"}, "workload.trace: a trace shares what it shares"),
        ("topology", {"fabric.tor_oversubscription": 0.5}, "tor_oversubscription: 0.5 is below 1"),
        ("ablation", {"workload.requests": 0}, "workload.requests: "),
        ("ablation", {"workload.profile": "poetry"}, "workload.profile: 'poetry' is not one of conversation, chatbot"),
    ],
)
def test_what_cannot_be_varied_or_run_is_named(question: str, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError, match=re.escape(complaint)):
        QUESTIONS[question].conditions("quick", QUESTIONS[question].policies, ("analytic",), changes)


@asked
def test_a_profile_or_policies_that_are_not_there_are_refused(question: Question) -> None:
    with pytest.raises(SpecError, match="profile: 'slow' is not one of quick, full"):
        question.conditions("slow", question.policies, ("analytic",), {})
    with pytest.raises(SpecError, match="policies: none was named"):
        question.conditions("quick", (), ("analytic",), {})


def test_a_figure_says_what_it_was_made_of() -> None:
    text = note_on(runs(QUESTIONS["scale"]), ["one"])
    assert text == (
        "75 runs without 1 invalid ones, 5 seeds; 64 to 1024 GPUs, llama-3-70b; workload conversation;"
        " congestion onoff."
    )
