"""The smallest plan that is wrong in the same way: fewer faults first, then fewer requests and fewer differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.support.chaos.plans import EVENTS, Plan

KEPT = ("world", "seed", "policy", EVENTS, "workload.requests", "simulation.link_sample_s")
"""What no smaller plan can do without, or has a step of its own."""

MOST_TRIALS = {"analytic": 200, "emulated": 12}
"""By world: an emulated trial takes half a minute, and more than two where a request waits for its deadline."""

PLAIN_POLICY = "round_robin"


def shrink(plan: Plan, still_wrong: Callable[[Plan], bool], most_trials: int | None = None) -> tuple[Plan, int]:
    """The smallest plan found of which `still_wrong` is true, and how many were tried; `plan` itself must be wrong.

    No single fault, and no single difference from the default, can be left out of the result, unless `most_trials` (of
    the plan's world: `MOST_TRIALS`) are used up. Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing
    Input, IEEE TSE 28 (2002), 183-200.
    """
    most_trials = MOST_TRIALS[plan["world"]] if most_trials is None else most_trials
    tried, best = 0, plan
    shrunk = True
    while shrunk and tried < most_trials:
        shrunk = False
        for smaller in smaller_than(best):
            if tried >= most_trials:
                break
            tried += 1
            if still_wrong(smaller):
                best, shrunk = smaller, True
                break
    return best, tried


def smaller_than(plan: Plan) -> Iterator[Plan]:
    """Plans a step smaller, the largest steps first: all faults, halves, quarters and single ones, then the rest."""
    events: list[dict[str, Any]] = plan[EVENTS]
    size = len(events)
    while size:
        for first in range(0, len(events), size):
            yield {**plan, EVENTS: events[:first] + events[first + size :]}
        size //= 2
    requests = plan.get("workload.requests", 1)
    for fewer in sorted({1, requests // 4, requests // 2, requests - 1} - {0}):
        if fewer < requests:
            yield {**plan, "workload.requests": fewer}
    for name in sorted(plan.keys() - set(KEPT)):
        yield {key: value for key, value in plan.items() if key != name}
    if plan["policy"] != PLAIN_POLICY:
        yield {**plan, "policy": PLAIN_POLICY}
    for place, event in enumerate(events):
        for simpler in _simpler(event):
            yield {**plan, EVENTS: [*events[:place], simpler, *events[place + 1 :]]}


def _simpler(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same fault at a round time, for a round time, or to the end of the run."""
    if event["at_s"] != round(event["at_s"]):
        yield {**event, "at_s": float(round(event["at_s"]))}
    if "for_s" in event:
        yield {name: value for name, value in event.items() if name != "for_s"}
        if event["for_s"] > 1 and event["for_s"] != round(event["for_s"]):
            yield {**event, "for_s": float(round(event["for_s"]))}
