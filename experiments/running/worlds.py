"""Opening the world that a specification names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from experiments.running.run_spec import RunSpec
from scenario import Scenario
from serving import AFTER_ITS_END, POLICY_ERROR, Outcome, Watch

if TYPE_CHECKING:
    from testbed import CaptureOrder

Say = Callable[[str], None]
Progress = Callable[[int], None]


class OpenWorld(Protocol):
    """A world that is up: it replays scenarios of one fabric."""

    def run(self, scenario: Scenario, progress: Progress = ..., watch: Watch | None = None) -> Outcome: ...


@contextmanager
def open_world(spec: RunSpec, say: Say = lambda _: None, capture: CaptureOrder | None = None) -> Iterator[OpenWorld]:
    """The world of `spec`, up for as long as the context lasts; only the emulated one has anything to capture."""
    # Each world is loaded when it is opened: a run waits for the import of its own world only.
    if spec.world == "emulated":
        from testbed import EmulatedWorld

        with EmulatedWorld(spec.scenario, spec.emulation, say, capture) as emulated:
            yield emulated
    else:
        from simulator import AnalyticWorld

        with AnalyticWorld(spec.scenario, spec.simulation, say) as analytic:
            yield analytic


def same_fabric(one: RunSpec, other: RunSpec) -> bool:
    """Whether one opening of a world can serve both."""
    if one.world != other.world:
        return False
    if one.world == "analytic":
        return one.simulation == other.simulation
    return (one.fabric, one.emulation, one.oracle.poll_s) == (other.fabric, other.emulation, other.oracle.poll_s)


def verdict_of(spec: RunSpec, outcome: Outcome) -> Mapping[str, Any]:
    """How far the run can be trusted: `verdict` valid, suspect or invalid, and `reasons`.

    The analytic world does what its equations say, so its runs are valid; whether the equations hold is the question.
    In either world a run is suspect if its sessions outlasted the background traffic, invalid if its policy ended it.
    """
    if spec.world == "analytic":
        found: dict[str, Any] = {"verdict": "valid", "reasons": []}
    else:
        from testbed import judge

        found = judge(spec.scenario, outcome)
    if after := outcome.evidence.get("congestion", {}).get(AFTER_ITS_END):
        reason = (
            f"{after} turns of sessions came after the background traffic had ended: they took longer than forecast;"
            " replay fewer requests, or lower the load"
        )
        verdict = "suspect" if found["verdict"] == "valid" else found["verdict"]
        found = {**found, "verdict": verdict, "reasons": [*found["reasons"], reason]}
    if broken := outcome.evidence.get(POLICY_ERROR):
        return {"verdict": "invalid", "reasons": [broken, *found["reasons"]]}
    return found
