"""The questions that `netkv sweep` asks, a file each: what is varied, who is compared, and what the answers say."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.questions import ablation, prefix, scale, staleness, staleness_map, topology
from experiments.questions.question import Axis, Packets, Profile, Question

QUESTIONS: Mapping[str, Question] = {
    module.QUESTION.name: module.QUESTION for module in (staleness, staleness_map, topology, prefix, ablation, scale)
}

__all__ = ["QUESTIONS", "Axis", "Packets", "Profile", "Question"]
