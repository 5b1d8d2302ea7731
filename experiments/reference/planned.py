"""Which sweeps the reference results are of: those behind the figures of docs, all of the analytic world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.questions import PUBLIC, QUESTIONS
from experiments.running import Condition, SpecError
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
