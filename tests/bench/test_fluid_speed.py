"""How fast the fluid network is, beside SimGrid on the same flows and beside its own definition in numpy.

Run with `pytest tests/bench -q -s`. CPU seconds, not wall-clock time: ours of the whole call, checks
included, SimGrid's of the simulation alone. The programs take turns on fresh flows, after a warm-up that compiles; the
figure is the median of the ratios of the turns.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from simulator.fluid import simulate_flows
from simulator.network import FluidNetwork
from tests.support.fluid_workloads import (
    Floats,
    Workload,
    build_simgrid_flows,
    fat_tree_workload,
    install_simgrid,
    simulate_in_simgrid,
)
from tests.support.maxmin import finish_times


@pytest.fixture(scope="module")
def simgrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    install_simgrid()
    program = build_simgrid_flows(tmp_path_factory.mktemp("simgrid"))
    simulate_in_simgrid(program, fat_tree_workload(4, 0.3, 50, seed=0))
    return program


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    drive(fat_tree_workload(4, 0.3, 50, seed=0))
    run_ours(fat_tree_workload(4, 0.3, 50, seed=0))


def run_ours(workload: Workload) -> tuple[Floats, float]:
    begin_s = time.process_time()
    finish_s = simulate_flows(*workload.flows)
    return finish_s, time.process_time() - begin_s


def drive(workload: Workload) -> float:
    """Return the CPU seconds that the same flows take when Python decides event by event."""
    begin_s = time.process_time()
    fluid = FluidNetwork(workload.capacity_Bps)
    for start_s, size_B, path in zip(workload.start_s.tolist(), workload.size_B.tolist(), workload.paths, strict=True):
        while (end_s := fluid.next_completion_s()) < start_s:
            fluid.advance(end_s)
            fluid.pop_completed()
        fluid.advance(start_s)
        fluid.add(path, size_B)
    return time.process_time() - begin_s


def fresh_seed() -> int:
    return int(np.random.SeedSequence().generate_state(1)[0])


@pytest.mark.parametrize(
    ("k", "load", "flows", "goal"),
    [(4, 0.9, 5000, 1.5), (8, 0.3, 5000, 3.0), (8, 0.6, 3000, 3.0), (16, 0.21, 5000, 5.0), (16, 0.5, 4000, 5.0)],
)
def test_faster_than_simgrid(simgrid: Path, k: int, load: float, flows: int, goal: float) -> None:
    ratios, rates, active = [], [], []
    for _ in range(5):
        workload = fat_tree_workload(k, load, flows, fresh_seed())
        theirs, their_cpu_s = simulate_in_simgrid(simgrid, workload)
        ours, our_cpu_s = run_ours(workload)
        assert ours == pytest.approx(theirs, rel=1e-6)
        ratios.append(their_cpu_s / our_cpu_s)
        rates.append((flows / our_cpu_s, flows / their_cpu_s))
        active.append(workload.mean_active(ours))
    our_rate, their_rate = (median(column) for column in zip(*rates, strict=True))
    print(
        f"\nk={k}, load {load}, {median(active):.0f} flows active: {our_rate:,.0f} flows/s, SimGrid {their_rate:,.0f};"
        f" ratio {median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
    )
    assert median(ratios) >= goal


def test_faster_than_the_definition() -> None:
    ratios = []
    for _ in range(3):
        workload = fat_tree_workload(8, 0.5, 400, fresh_seed())
        begin_s = time.process_time()
        expected = finish_times(*workload.flows)
        numpy_cpu_s = time.process_time() - begin_s
        ours, our_cpu_s = run_ours(workload)
        assert ours == pytest.approx(expected, rel=1e-9)
        ratios.append(numpy_cpu_s / our_cpu_s)
    print(f"\nk=8, load 0.5: {median(ratios):,.0f} times the definition in numpy")
    assert median(ratios) >= 50


def test_cost_of_an_event_as_flows_grow() -> None:
    """A larger fabric at the same load: more flows, but each event still has only its neighbourhood to change."""
    print("\nhosts  load  active  us/event  us/event driven from Python")
    cost_us: dict[tuple[float, int], float] = {}
    for load in (0.2, 0.4, 0.6, 0.8):
        for k in (4, 8, 16):
            hosts = k**3 // 4
            flows = max(3000, 12 * hosts)
            turns = []
            for _ in range(3):
                workload = fat_tree_workload(k, load, flows, fresh_seed())
                finish_s, cpu_s = run_ours(workload)
                turns.append((cpu_s, drive(workload), workload.mean_active(finish_s)))
            cpu_s, driven_s, active = (median(column) for column in zip(*turns, strict=True))
            us_per_event = 1e6 / (2 * flows)
            cost_us[load, k] = cpu_s * us_per_event
            print(f"{hosts:5d}  {load:4}  {active:6.0f}  {cost_us[load, k]:8.2f}  {driven_s * us_per_event:8.2f}")
    # 64 times the hosts and about 50 times the flows, and an event may cost at most 8 times as much.
    assert cost_us[0.4, 16] / cost_us[0.4, 4] < 8
