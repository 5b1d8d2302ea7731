"""How fast the analytic world replays whole workloads, and what an event costs as more flows share the network.

CPU seconds beside wall seconds, because other work on a machine slows only the latter, and beside the events of a bare
loop in Python, timed before and after each run. Peak memory is the process's so far, so it is that of the largest run
above the line.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import pytest

from scenario import CongestionSpec, Scenario, WorkloadSpec
from tests.support.bench_ratios import Ratios
from tests.support.replays import CONVERSATION_REQUESTS, CONVERSATION_RPS, FABRICS, Replay, load_on, replay

TURNS = 3
A_BARE_EVENT = "a bare event"


def noted(ratios: Ratios, name: str, turns: list[Replay]) -> None:
    """Tell every turn; hold an event against a bare one."""
    for turn in turns:
        print(f"\n{turn.told(name)}", end="")
    ratios.note(f"an event of {name}", A_BARE_EVENT, [turn.bare_s for turn in turns], [turn.event_s for turn in turns])


@pytest.fixture(scope="module", autouse=True)
def compiled() -> Iterator[None]:
    """Compile before the first measurement."""
    replay(Scenario(workload=WorkloadSpec(requests=20)))
    yield
    print()


@pytest.mark.parametrize("policy", ["round_robin", "cla", "netkv_static", "netkv_full"])
def test_the_whole_conversation_trace_on_64_gpus(ratios: Ratios, policy: str) -> None:
    made = [replay(load_on(64, CONVERSATION_REQUESTS, policy)) for _ in range(TURNS)]
    noted(ratios, f"the trace's size, {policy}", made)
    assert median(turn.cpu_s for turn in made) < 5


@pytest.mark.parametrize("connections", [8, 32, 128, 512])
def test_what_an_event_costs_as_background_grows(ratios: Ratios, connections: int) -> None:
    hot_spot = CongestionSpec(flows=connections, mean_on_s=60.0, mean_off_s=0.1)
    load = WorkloadSpec(requests=8_000, rate_rps=CONVERSATION_RPS * 4)
    made = replay(Scenario(fabric=FABRICS[256], workload=load, congestion=hot_spot))
    noted(ratios, f"{connections} background connections", [made])


@pytest.mark.parametrize("gpus", FABRICS)
def test_what_an_event_costs_as_the_system_grows(ratios: Ratios, gpus: int) -> None:
    """The same load for each GPU."""
    noted(ratios, f"{gpus} GPUs", [replay(load_on(gpus, max(4 * gpus, 4000)))])


def test_a_policy_that_reads_no_telemetry_does_not_pay_for_it(ratios: Ratios) -> None:
    """In a run, where our own transfers are to be told from others' in every snapshot."""
    us: dict[str, list[float]] = {"round_robin": [], "netkv_full": []}
    for _ in range(TURNS):
        for policy, of_turns in us.items():
            made = replay(load_on(1024, 3000, policy))
            of_turns.append(made.outcome.evidence["measured"]["decision_us"]["p50"])
    found = ratios.note(
        "a decision of round_robin in a run, 1024 GPUs", "one of netkv_full", us["netkv_full"], us["round_robin"]
    )
    print(f"\nround_robin {median(us['round_robin']):.0f} us, netkv_full {median(us['netkv_full']):.0f} us", end="")
    assert found.median > 1


@pytest.mark.timeout(600)
def test_sixteen_times_the_trace_on_1024_gpus(ratios: Ratios) -> None:
    made = replay(load_on(1024, 16 * CONVERSATION_REQUESTS))
    noted(ratios, "16 traces, 1024 GPUs", [made])
    assert made.cpu_s < 90
    assert made.outcome.evidence["measured"]["peak_rss_bytes"] < 2**30


@pytest.mark.timeout(1800)
def test_a_million_requests_on_16384_gpus(ratios: Ratios) -> None:
    made = replay(load_on(16384, 1_000_000))
    noted(ratios, "a million, 16384 GPUs", [made])
    assert made.cpu_s < 1200
    assert made.outcome.evidence["measured"]["peak_rss_bytes"] < 4 * 2**30
