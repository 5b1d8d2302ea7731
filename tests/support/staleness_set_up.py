"""The set-up of a profile of `netkv sweep staleness`, for benchmarks and tests that run it by themselves."""

from __future__ import annotations

from typing import Any

from experiments.questions import QUESTIONS

STALENESS = QUESTIONS["staleness"]


def set_up_of(profile: str) -> dict[str, Any]:
    """The changes that every run of a profile has, its congestion among them; `quick` is the main job's."""
    found = STALENESS.profiles[profile]
    return {**found.changes, "congestion.kind": found.axes["congestion"][0]}
