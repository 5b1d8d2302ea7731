"""The parts of what a decode instance is expected to cost, for policies that compare instances by time."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from scheduler.arrays import Floats
from scheduler.candidates import Candidates
from scheduler.view import View
from workloads import Request


class CostTerms(NamedTuple):
    """What each candidate is expected to cost from the decision to the first token: four times, each [D], seconds."""

    latency_s: Floats
    transfer_s: Floats
    admission_s: Floats
    first_step_s: Floats

    @property
    def total_s(self) -> Floats:
        """Their sum, shape [D], seconds."""
        total_s: Floats = self.latency_s + self.transfer_s + self.admission_s + self.first_step_s
        return total_s


@runtime_checkable
class CostModel(Protocol):
    """A policy that chooses the instance of least `total_s`."""

    def cost_terms(self, request: Request, candidates: Candidates, view: View) -> CostTerms:
        """The terms for one request. Asked again at the same decision, it answers the same."""
        ...
