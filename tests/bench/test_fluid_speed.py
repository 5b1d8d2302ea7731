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
from simulator.tables import FLOW, HOP, LINK
from tests.support.bench_ratios import Ratios
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
    [
        (4, 0.5, 5000, 1.5),
        (4, 0.9, 5000, 1.5),
        (8, 0.3, 5000, 3.0),
        (8, 0.6, 3000, 3.0),
        (16, 0.21, 5000, 5.0),
        (16, 0.5, 4000, 5.0),
    ],
)
def test_faster_than_simgrid(ratios: Ratios, simgrid: Path, k: int, load: float, flows: int, goal: float) -> None:
    ours_s, theirs_s, active = [], [], []
    for _ in range(5):
        workload = fat_tree_workload(k, load, flows, fresh_seed())
        theirs, their_cpu_s = simulate_in_simgrid(simgrid, workload)
        ours, our_cpu_s = run_ours(workload)
        assert ours == pytest.approx(theirs, rel=1e-6)
        ours_s.append(our_cpu_s)
        theirs_s.append(their_cpu_s)
        active.append(workload.mean_active(ours))
    found = ratios.note(f"fluid, k={k}, load {load}", "SimGrid", theirs_s, ours_s)
    print(
        f"\nk={k}, load {load}, {median(active):.0f} flows active: {flows / median(ours_s):,.0f} flows/s, SimGrid"
        f" {flows / median(theirs_s):,.0f}; ratio {found.median:.1f} ({found.low:.1f} to {found.high:.1f})"
    )
    assert found.median >= goal


def test_faster_than_the_definition(ratios: Ratios) -> None:
    ours_s, numpy_s = [], []
    for _ in range(3):
        workload = fat_tree_workload(8, 0.5, 400, fresh_seed())
        begin_s = time.process_time()
        expected = finish_times(*workload.flows)
        numpy_s.append(time.process_time() - begin_s)
        ours, our_cpu_s = run_ours(workload)
        assert ours == pytest.approx(expected, rel=1e-9)
        ours_s.append(our_cpu_s)
    found = ratios.note("fluid, k=8, load 0.5", "its definition in numpy", numpy_s, ours_s)
    print(f"\nk=8, load 0.5: {found.median:,.0f} times the definition in numpy")
    assert found.median >= 50


@pytest.mark.parametrize(("k", "load"), [(4, 0.5), (4, 0.9), (8, 0.6), (16, 0.5)])
def test_how_far_the_memory_is(ratios: Ratios, k: int, load: float) -> None:
    """The limit of a solver that is told which rates change: it reads and writes these flows and their links once."""
    workload = fat_tree_workload(k, load, 3000, fresh_seed())
    changes = changes_per_event(workload, flows=1000)
    hops = float(np.mean([len(path) for path in workload.paths]))
    touched_B = 2 * changes * (FLOW.itemsize + hops * (HOP.itemsize + LINK.itemsize))
    turns = [(touched_B * copied_s_per_B(), run_ours(workload)[1] / 6000) for _ in range(3)]
    found = ratios.note(f"fluid, k={k}, load {load}", "memory's limit", *zip(*turns, strict=True))
    print(
        f"\nk={k}, load {load}: {changes:.1f} rates change at an event, {touched_B / 1e3:.1f} kB, at memory's speed"
        f" {1e6 * median(turn[0] for turn in turns):.2f} us; ours {1e6 * median(turn[1] for turn in turns):.2f} us"
    )
    assert found.median < 1


def changes_per_event(workload: Workload, flows: int) -> float:
    """How many flows have another rate after a start or an end than before it, the one itself included; the mean."""
    fluid, changed, events = FluidNetwork(workload.capacity_Bps), 0, 0
    before: dict[int, float] = {}

    def count() -> None:
        nonlocal before, changed, events
        now = dict(zip(fluid.flows, fluid.rates_Bps().tolist(), strict=True))
        changed += len(now.keys() ^ before.keys())
        changed += sum(abs(now[flow] - before[flow]) > 1e-9 * now[flow] for flow in now.keys() & before.keys())
        before, events = now, events + 1

    for start_s, size_B, path in zip(workload.start_s[:flows].tolist(), workload.size_B, workload.paths, strict=False):
        while (end_s := fluid.next_completion_s()) < start_s:
            fluid.advance(end_s)
            count()
        fluid.advance(start_s)
        fluid.add(path, size_B)
        count()
    return changed / events


def copied_s_per_B() -> float:
    """CPU seconds that a byte takes to be read or written, by a copy that no cache holds."""
    source = np.zeros(8_000_000)
    target = np.ones_like(source)
    begin_s = time.process_time()
    np.copyto(target, source)
    return (time.process_time() - begin_s) / (2 * source.nbytes)


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
