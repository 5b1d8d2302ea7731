"""Which runs the reference results are of: analytic sweeps behind the figures of docs, and the emulated leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.questions import PUBLIC, QUESTIONS
from experiments.running import Condition, SpecError, make_spec
from topologies import did_you_mean

SWEEPS = ("staleness", "staleness_map", "topology", "prefix", "ablation", "scale", "regimes", "faults", "hard_cases")
"""The questions of a reference."""

NOT_PUBLIC = ("cla_star", "netkv_topo_only", "netkv_static", "netkv_full", "netkv_fresh")

QUESTIONS_OF: Mapping[str, Sequence[str]] = {"regimes": (*PUBLIC, *NOT_PUBLIC)}
"""By question, the policies of its reference where these are not the question's own: the leaderboard has all public
ones in every regime."""


def planned_sweep(name: str, profile: str) -> tuple[list[Condition], str]:
    """The runs of a question's reference, and the command that makes them. SpecError for what is none."""
    if name not in SWEEPS:
        raise SpecError(f"--questions: {name!r} is not one of {', '.join(SWEEPS)}{did_you_mean(name, SWEEPS)}")
    question = QUESTIONS[name]
    policies = QUESTIONS_OF.get(name, question.policies)
    command = f"netkv sweep {name} --world analytic --profile {profile}"
    command += f" --policies {','.join(policies)}" if name in QUESTIONS_OF else ""
    return question.conditions(profile, policies, ("analytic",), {}), command


def planned_emulated(seeds: int) -> list[Condition]:
    """The emulated leaderboard's runs of the first `seeds` seeds: every policy in every regime, as in the analytic one.
    `netkv sweep regimes` by itself emulates a part of them."""
    planned, _ = planned_sweep("regimes", "quick")
    kept = sorted({condition.spec.seed for condition in planned})[:seeds]
    return [_emulated(condition) for condition in planned if condition.spec.seed in kept]


def _emulated(condition: Condition) -> Condition:
    spec = make_spec(condition.spec.model_dump(mode="json"), {"world": "emulated"})
    name = condition.name.replace("analytic", "emulated", 1)
    return Condition(name, spec, {**condition.labels, "world": "emulated"})
