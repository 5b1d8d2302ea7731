"""The questions by name: a new one is a file beside this and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.questions import (
    ablation,
    fault_tolerance,
    hard_cases,
    prefix,
    regimes,
    scale,
    staleness,
    staleness_map,
    topology,
)
from experiments.questions.question import Question

QUESTIONS: Mapping[str, Question] = {
    module.QUESTION.name: module.QUESTION
    for module in (staleness, staleness_map, topology, prefix, ablation, scale, regimes, fault_tolerance, hard_cases)
}
