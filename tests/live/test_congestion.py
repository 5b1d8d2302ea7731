"""Background congestion and telemetry on the real fabric: offered load against what the switches counted.

All runs share one fabric, so what one leaves to the next is looked at here, too. What telemetry does when a switch
loses its controller is in `test_controller.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import pairwise
from math import inf, isfinite
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from scenario import OracleSpec, Scenario
from serving import Outcome
from testbed.emulated_world import EmulatedWorld
from testbed.emulation import EmulationSpec
from testbed.verdict import judge
from tests.support.live.speed import made_at_most_twice, speed_of_a_run
from topologies import instance_ip

pytestmark = pytest.mark.live

SLOW = 5_000.0
"""Links of 40, 20 and 10 Mbit/s: the offered load is no strain for a machine that does other things too."""

POLL_S = 0.1

REPLY_S = 0.03
"""From a request for counters to the last switch's reply, with room: measured 4 ms (p99)."""

HANGS_S = 2.5

NEAR = 0.1
"""Offered against measured, relative; where next to nothing was offered, a hundredth of a link."""

ROGUE = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
    while True:
        peer.sendto(bytes(1000), (sys.argv[1], 9))
        time.sleep(0.002)
"""

FEW = {"profile": "chatbot", "requests": 15, "rate_rps": 1.7, "max_output_tokens": 2}
"""Greedy traffic yields to KV, so there is little of it."""

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
    "greedy onoff": {"workload": FEW, "congestion": {"kind": "onoff", "mean_on_s": 60, "mean_off_s": 0.5}},
    "greedy incast": {"workload": FEW, "congestion": {"kind": "incast", "period_s": 6, "flows": 14}},
}
"""One run each serves all tests. Connections of paced flows are few, so that they seldom share a queue.
A paced flow is held to the plan; a greedy one takes what the paths that its hash gave it leave, so it is held to the
plan over those: what reaches its racks (tier 1) and the fullest port as near as the others, the links above less so. It
lasts: a quarter of a second of a stopped flow's frames is still in the queues, too much beside one of some seconds."""

NEAR_ABOVE_THE_RACKS = 0.2
"""TCP shares a full port unevenly between near and far senders, and ports before it carry what it drops: one incast of
14 senders had 1.6 % more than was offered at the full port, 13 % more on the links above the racks."""

GREEDY = tuple(name for name in RUNS if name.startswith("greedy"))


def scenario(name: str, requests: int = 30) -> Scenario:
    """Short prompts: the fabric belongs to the background traffic."""
    workload = {"profile": "chatbot", "requests": requests, "rate_rps": 3.5, "max_output_tokens": 2}
    return Scenario.model_validate({"workload": workload, "seed": 2, **RUNS[name]})


@pytest.fixture(scope="module")
def world() -> Iterator[EmulatedWorld]:
    with EmulatedWorld(scenario("none"), EmulationSpec(rate_scale=SLOW)) as world:
        yield world


@pytest.fixture(scope="module")
def run(world: EmulatedWorld) -> Callable[[str], Outcome]:
    return cache(lambda name: made_at_most_twice(lambda _: made(world, name), partial(reasons_of, name)))


MADE: list[Outcome] = []
"""Every run of the shared fabric, in order, the repeated ones among them."""


def made(world: EmulatedWorld, name: str) -> Outcome:
    MADE.append(world.run(scenario(name)))
    return MADE[-1]


def reasons_of(name: str, outcome: Outcome) -> list[str]:
    """Why the verdict of a run is not `valid`."""
    reasons: list[str] = judge(scenario(name), outcome)["reasons"]
    return reasons


@pytest.mark.parametrize("name", [name for name in RUNS if name not in GREEDY])
def test_the_switches_measure_what_was_offered(run: Callable[[str], Outcome], name: str) -> None:
    found = run(name).evidence["congestion"]
    assert found["kind"] == RUNS[name]["congestion"]["kind"]
    with speed_of_a_run(reasons_of(name, run(name))):
        for tier in "123":
            offered, measured = found["tiers"][tier]["offered"], found["tiers"][tier]["measured"]
            assert measured == pytest.approx(offered, rel=NEAR, abs=0.01), (tier, found)


@pytest.mark.parametrize("name", GREEDY)
def test_greedy_traffic_takes_what_its_paths_leave_it(run: Callable[[str], Outcome], name: str) -> None:
    found = run(name).evidence["congestion"]
    with speed_of_a_run(reasons_of(name, run(name))):
        for tier, near in (("1", NEAR), ("2", NEAR_ABOVE_THE_RACKS), ("3", NEAR_ABOVE_THE_RACKS)):
            offered, measured = found["tiers"][tier]["offered_on_paths"], found["tiers"][tier]["measured"]
            assert measured == pytest.approx(offered, rel=near, abs=0.01), (tier, found)
        assert found["busiest"]["offered_on_paths"] > 0.2
        assert found["busiest"]["total"] == pytest.approx(found["busiest"]["offered_on_paths"], rel=NEAR), found


def test_an_incast_fills_the_access_link_of_its_victim(run: Callable[[str], Outcome]) -> None:
    """Fourteen senders from everywhere: while they send, it is that link that is full, and no other need be."""
    outcome = run("greedy incast")
    fabric, _ = scenario("greedy incast").build()
    for victim in {flow["target"] for flow in outcome.background}:
        periods = {
            (round(flow["started_s"]), flow["started_s"] + 1, flow["ended_s"])
            for flow in outcome.background
            if flow["target"] == victim and flow["ended_s"] - flow["started_s"] > 2
        }
        link = fabric.links[fabric.paths(0, victim)[0][-2]].name  # instance 0 prefills: no victim is on its server
        during = [
            row["utilisation"]
            for row in outcome.links
            if row["link"] == link and any(begin_s < row["time_s"] < end_s for _, begin_s, end_s in periods)
        ]
        if during:
            assert median(during) == pytest.approx(1.0, abs=NEAR), (victim, link, during)


def test_every_run_begins_and_ends_on_a_clean_fabric(run: Callable[[str], Outcome]) -> None:
    carried = []
    for name in RUNS:
        run(name)
    for number, outcome in enumerate(MADE):
        for proof in (outcome.evidence["clean_start"], outcome.evidence["clean_end"]):
            assert proof["clean"], (number, proof)
            assert proof["took_s"] < 5  # what it takes to call a fabric not clean
            carried.append(proof["carried_bytes"])
        first = {row["link"]: row["bytes"] for row in reversed(outcome.links)}
        assert set(first.values()) == {0.0}, "links.parquet counts from the run's own start"
    assert carried == sorted(carried), "the runs came one after another"
    before_next = list(zip(carried[1::2], carried[2::2], strict=False))
    assert all(later - earlier < 20_000 for earlier, later in before_next), "between two runs nothing was sent"


def test_a_flow_that_somebody_left_running_is_named_and_the_run_is_invalid(world: EmulatedWorld) -> None:
    wanted = scenario("none", requests=4)
    host = process_of(world, "mininet:h3")
    command = [sys.executable, "-c", ROGUE, instance_ip(wanted.build()[0].instances[12])]
    enter = ["nsenter", "-t", str(host), "-n", "-p", "-m", "--"]
    rogue = subprocess.Popen([*enter, *command], start_new_session=True)
    try:
        outcome = world.run(wanted)
    finally:
        os.killpg(rogue.pid, signal.SIGKILL)  # nsenter and its child inside
        rogue.wait()
    proof, verdict = outcome.evidence["clean_start"], judge(wanted, outcome)
    assert not proof["clean"]
    assert 5 <= proof["took_s"] < 8  # it was given time to end
    assert any(line.startswith("h3: process ") and "SOCK_DGRAM" in line for line in proof["left"]), proof
    assert any(line.startswith("h3: udp socket on ") for line in proof["left"]), proof
    assert verdict["verdict"] == "invalid"
    assert any(reason.startswith("the fabric was not clean before the run (5.") for reason in verdict["reasons"])
    again = world.run(wanted)
    assert again.evidence["clean_start"]["clean"], again.evidence["clean_start"]


def process_of(world: EmulatedWorld, words: str) -> int:
    """The process whose command line ends in these words, of those that the sandbox of this world holds."""
    below = {os.getpid()}
    found = []
    for place in sorted(int(place.name) for place in Path("/proc").iterdir() if place.name.isdigit()):
        try:
            parent = int(Path(f"/proc/{place}/stat").read_text().rpartition(")")[2].split()[1])
            line = Path(f"/proc/{place}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
        if parent in below:
            below.add(place)
            if line.endswith(words):
                found.append(place)
    (process,) = found
    return process


def test_recorded_ages_match_the_refresh_interval_within_a_poll(run: Callable[[str], Outcome]) -> None:
    """What the controller says is up to a poll old, and its slowest reply a little more."""
    decisions = run("constant").decisions
    ages_s = [decision["oracle_age_ms"] / 1e3 for decision in decisions]
    assert min(ages_s) >= 0
    assert 1.5 < max(ages_s) <= 2.0 + POLL_S + REPLY_S
    taken_s = sorted({round(decision["decided_s"] - decision["oracle_age_ms"] / 1e3, 3) for decision in decisions})
    assert len(taken_s) >= 4
    for before_s, after_s in pairwise(taken_s):
        assert after_s - before_s == pytest.approx(2.0, abs=POLL_S + REPLY_S)


def test_while_the_controller_hangs_the_view_ages_and_then_it_is_fresh_again(world: EmulatedWorld) -> None:
    wanted = scenario("none").model_copy(update={"oracle": OracleSpec(refresh_s=0.2)})
    controller = process_of(world, "--openflow ryu")
    timers: list[threading.Timer] = []

    def hang(done: int) -> None:
        if done >= 5 and not timers:
            os.kill(controller, signal.SIGSTOP)
            timers.append(threading.Timer(HANGS_S, os.kill, (controller, signal.SIGCONT)))
            timers[0].start()

    outcome = world.run(wanted, hang)
    assert timers, "the run was long enough for it"
    assert all(record.status == "completed" for record in outcome.requests)
    rows = sorted((row["decided_s"], row["oracle_age_ms"] / 1e3) for row in outcome.decisions)
    taken_s = sorted({round(decided_s - age_s, 3) for decided_s, age_s in rows if isfinite(age_s)})
    last_s, next_s = max(pairwise(taken_s), key=lambda pair: pair[1] - pair[0])
    assert next_s - last_s > HANGS_S - 2 * POLL_S
    known_s = last_s + 0.2 + REPLY_S  # by then the last sample had been asked for
    meanwhile = [(decided_s, age_s) for decided_s, age_s in rows if known_s < decided_s < next_s]
    assert len(meanwhile) >= 4
    for decided_s, age_s in meanwhile:  # the last sample, ever older, or none at all
        assert age_s == pytest.approx(decided_s - last_s, abs=0.001) or age_s == inf
    afterwards = [age_s for decided_s, age_s in rows if decided_s > next_s + 0.5]
    assert afterwards
    assert max(afterwards) <= 0.2 + 2 * POLL_S + REPLY_S
    assert outcome.evidence["oracle_refusals"]


def test_a_view_that_is_never_refreshed_ages_second_by_second(run: Callable[[str], Outcome]) -> None:
    decisions = run("hotspot").decisions
    aged = [decision for decision in decisions if decision["oracle_age_ms"] < float("inf")]
    assert len(aged) >= len(decisions) - 1  # the first may be made before the one snapshot is there
    taken_s = [decision["snapshot_s"] for decision in aged]
    assert max(taken_s) - min(taken_s) < 1e-6
    assert max(taken_s) <= POLL_S
    ages_s = [decision["decided_s"] - decision["snapshot_s"] for decision in aged]
    assert ages_s == pytest.approx([decision["oracle_age_ms"] / 1e3 for decision in aged])


def test_a_delayed_view_is_older_by_its_delay(run: Callable[[str], Outcome]) -> None:
    ages_s = [decision["oracle_age_ms"] / 1e3 for decision in run("onoff").decisions]
    known_s = [age_s for age_s in ages_s if age_s < float("inf")]
    assert len(known_s) > 10
    assert min(known_s) >= 1.0
    assert max(known_s) <= 1.0 + 0.2 + 3 * POLL_S
