"""A new policy on the leaderboard: the reference's own runs once more, decided by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from experiments.questions import in_a_folders_name
from experiments.reference.data_set import DataSet, check_question
from experiments.reference.leaderboard import BASELINE, QUESTION
from experiments.running import Condition, SpecError, make_spec


def entry_conditions(reference: DataSet, policies: Sequence[str]) -> list[Condition]:
    """The runs of new policies: every analytic run of the baseline with each policy instead.

    With them are the baseline's own runs of one seed, which show whether this code reproduces the reference. SpecError
    for a policy that the reference has already, or that cannot be found.
    """
    check_question(reference, QUESTION)
    runs = reference.runs
    there = set(runs.loc[runs["question"] == QUESTION, "policy"])
    for policy in policies:
        if policy in there:
            raise SpecError(f"--policies: {policy} is on the leaderboard already")
    of_baseline = runs[(runs["question"] == QUESTION) & (runs["policy"] == BASELINE) & (runs["world"] == "analytic")]
    specs = reference.specs(QUESTION)
    labels = reference.labels(QUESTION)
    first = of_baseline["seed"].min()
    found = [
        _condition(name, BASELINE, specs[name], labels[name])
        for name in of_baseline.loc[of_baseline["seed"] == first, "name"]
    ]
    return found + [
        _condition(name, policy, specs[name], labels[name]) for policy in policies for name in of_baseline["name"]
    ]


def _condition(name: str, policy: str, given: dict[str, Any], labels: dict[str, Any]) -> Condition:
    spec = make_spec(given, {"policy": policy})
    return Condition(name.replace(BASELINE, in_a_folders_name(policy), 1), spec, labels)


def with_entries(known: pd.DataFrame, entered: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """The requests of a board and those of the policies that were entered, in the columns of the board."""
    new = entered[entered["policy"].isin(policies)]
    return pd.concat([known, new[[name for name in known if name in new]]], ignore_index=True)
