"""Background congestion and telemetry on the real fabric: what was asked for against what the switches counted.

What telemetry does when a switch loses its controller is in `test_controller_live.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from scheduler import Outcome
from testbed.emulation import EmulationSpec
from testbed.world import EmulatedWorld
from workloads import Scenario

pytestmark = pytest.mark.live

SLOW = 5_000.0
"""Links of 40, 20 and 10 Mbit/s: what is asked of them is no strain for a machine that does other things too."""

POLL_S = 0.1

NEAR = 0.1
"""Asked against seen, relative; where next to nothing was asked, a hundredth of a link."""

RUNS: dict[str, dict[str, Any]] = {
    "none": {"congestion": {"kind": "none"}},
    "constant": {
        "congestion": {"kind": "constant", "utilisation": 0.5, "tiers": [3, 2], "connections": 2},
        "oracle": {"refresh_s": 2.0},
    },
    "udp": {"congestion": {"kind": "constant", "utilisation": 0.3, "protocol": "udp"}},
    "onoff": {
        "congestion": {"kind": "onoff", "mean_on_s": 3, "mean_off_s": 2, "utilisation": 0.8, "connections": 2},
        "oracle": {"refresh_s": 0.2, "delay_s": 1.0},
    },
    "hotspot": {"congestion": {"kind": "hotspot", "period_s": 3, "connections": 2}, "oracle": {"refresh_s": "never"}},
    "incast": {"congestion": {"kind": "incast", "period_s": 6, "flows": 14, "utilisation": 0.9, "connections": 1}},
    "shuffle": {"congestion": {"kind": "shuffle", "connections": 4}},
}
"""One run each serves all tests. Connections are few: Linux does not pace the first ten segments of one. All are paced:
how greedy ones share depends on the paths that hashes give them (one incast: 4 % off at tier 1, 10 % at tier 2)."""


def scenario(name: str) -> Scenario:
    """Short prompts: the fabric belongs to the background traffic."""
    workload = {"profile": "chatbot", "requests": 30, "rate_rps": 3.5, "max_output_tokens": 2}
    return Scenario.model_validate({"workload": workload, "seed": 2, **RUNS[name]})


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[[str], Outcome]]:
    with EmulatedWorld(scenario("none"), EmulationSpec(rate_scale=SLOW)) as world:
        yield cache(lambda name: world.run(scenario(name)))


@pytest.mark.parametrize("name", RUNS)
def test_the_switches_see_what_was_asked(run: Callable[[str], Outcome], name: str) -> None:
    found = run(name).evidence["congestion"]
    assert found["kind"] == RUNS[name]["congestion"]["kind"]
    for tier in "123":
        asked, seen = found["tiers"][tier]["asked"], found["tiers"][tier]["seen"]
        assert seen == pytest.approx(asked, rel=NEAR, abs=0.01), (tier, found)


def test_recorded_ages_match_the_refresh_interval_within_a_poll(run: Callable[[str], Outcome]) -> None:
    """A sample is published up to a poll after it was taken, and fetched up to another one later."""
    ages_s = [decision["oracle_age_ms"] / 1e3 for decision in run("constant").decisions]
    assert min(ages_s) >= 0
    assert 1.5 < max(ages_s) <= 2.0 + 2 * POLL_S


def test_a_view_that_is_never_refreshed_ages_second_by_second(run: Callable[[str], Outcome]) -> None:
    decisions = run("hotspot").decisions
    taken_s = [decision["decided_s"] - decision["oracle_age_ms"] / 1e3 for decision in decisions]
    assert max(taken_s) - min(taken_s) < 1e-6
    assert max(taken_s) <= POLL_S


def test_a_delayed_view_is_older_by_its_delay(run: Callable[[str], Outcome]) -> None:
    ages_s = [decision["oracle_age_ms"] / 1e3 for decision in run("onoff").decisions]
    known_s = [age_s for age_s in ages_s if age_s < float("inf")]
    assert len(known_s) > 10
    assert min(known_s) >= 1.0
    assert max(known_s) <= 1.0 + 0.2 + 3 * POLL_S
