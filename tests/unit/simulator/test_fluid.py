"""The fluid network against cases worked by hand, against the definition of max-min fairness, and against bad input."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from simulator.fluid import NoProgressError, simulate_flows
from simulator.network import Completion, FluidNetwork
from tests.support.maxmin import finish_times, max_min_rates

Floats = NDArray[np.float64]
RELATIVE = 1e-9


# Cases worked by hand


def test_one_flow_takes_size_over_capacity() -> None:
    assert simulate_flows([8.0], [2.5], [100.0], [[0]]).tolist() == [15.0]


def test_two_staggered_flows_share_then_finish_together_late() -> None:
    finish_s = simulate_flows([10.0], [0.0, 5.0], [100.0, 100.0], [[0], [0]])
    assert finish_s.tolist() == [15.0, 20.0]  # 50 B alone, then 5 B/s each; at 15 s the second gets 10 B/s back


def test_three_flows_on_two_links() -> None:
    # The second flow crosses both links and shares the narrow one with the third: 2 B/s each. The first takes the
    # 8 B/s that are left on the wide link. At 20 s the first two end, the third has 60 B left and 4 B/s.
    finish_s = simulate_flows([10.0, 4.0], [0.0, 0.0, 0.0], [160.0, 40.0, 100.0], [[0], [0, 1], [1]])
    assert finish_s.tolist() == [20.0, 20.0, 35.0]


@pytest.mark.parametrize("hops", [1, 2, 5, 40])
def test_parking_lot(hops: int) -> None:
    """A long flow over all links, a cross flow on each: all get half a link, then the cross flows get all of it."""
    paths = [list(range(hops))] + [[hop] for hop in range(hops)]
    finish_s = simulate_flows([2.0] * hops, [0.0] * (hops + 1), [10.0] + [15.0] * hops, paths)
    assert finish_s.tolist() == [10.0] + [12.5] * hops


def test_parking_lot_with_unequal_links() -> None:
    """Bertsekas and Gallager's picture: the long flow is held by the tightest link, the others take what it leaves."""
    paths = [[0, 1, 2], [0], [1], [1], [2]]
    assert max_min_rates([1.0, 1.0, 2.0], paths) == pytest.approx([1 / 3, 2 / 3, 1 / 3, 1 / 3, 5 / 3])


def test_a_flow_of_size_zero_ends_as_it_starts_and_disturbs_nobody() -> None:
    assert simulate_flows([10.0], [0.0, 3.0], [100.0, 0.0], [[0], [0]]).tolist() == [10.0, 3.0]


def test_no_flows() -> None:
    assert simulate_flows([10.0], [], [], []).tolist() == []


def test_flows_that_end_and_start_at_one_instant_do_not_share() -> None:
    assert simulate_flows([10.0], [0.0, 10.0], [100.0, 100.0], [[0], [0]]).tolist() == [10.0, 20.0]


# The definition, on random networks


@st.composite
def networks(draw: st.DrawFn, max_links: int = 8, max_flows: int = 12) -> tuple[Floats, list[list[int]]]:
    """Few links and small numbers, so that ties, shared bottlenecks and chains of bottlenecks are common."""
    links = draw(st.integers(1, max_links))
    capacities = st.one_of(st.integers(1, 12).map(float), st.floats(0.01, 1e6))
    capacity = draw(st.lists(capacities, min_size=links, max_size=links))
    path = st.lists(st.integers(0, links - 1), min_size=1, max_size=min(links, 5), unique=True)
    return np.array(capacity), draw(st.lists(path, min_size=1, max_size=max_flows))


@st.composite
def workloads(draw: st.DrawFn) -> tuple[Floats, list[float], list[float], list[list[int]]]:
    capacity, paths = draw(networks())
    times = st.one_of(st.integers(0, 10).map(float), st.floats(0, 100))
    sizes = st.one_of(st.integers(0, 50).map(float), st.floats(0.1, 1e6))
    flows = len(paths)
    start = draw(st.lists(times, min_size=flows, max_size=flows))
    return capacity, start, draw(st.lists(sizes, min_size=flows, max_size=flows)), paths


def link_loads(capacity: Floats, paths: list[list[int]], rates: Floats) -> Floats:
    load = np.zeros(len(capacity))
    for path, rate in zip(paths, rates, strict=True):
        load[path] += rate
    return load


def assert_max_min(capacity: Floats, paths: list[list[int]], rates: Floats, weight: Floats) -> None:
    """Feasible, and every flow crosses a full link on which no flow has more for its weight: necessary and enough."""
    load = link_loads(capacity, paths, rates)
    assert (load <= capacity * (1 + RELATIVE)).all()
    level = rates / weight
    highest = np.zeros(len(capacity))
    for path, flow_level in zip(paths, level, strict=True):
        highest[path] = np.maximum(highest[path], flow_level)
    for path, flow_level in zip(paths, level, strict=True):
        assert any(
            load[link] >= capacity[link] * (1 - RELATIVE) and flow_level >= highest[link] * (1 - RELATIVE)
            for link in path
        )


@given(networks(), st.data())
@settings(max_examples=100)
def test_both_forms_give_the_max_min_allocation(network: tuple[Floats, list[list[int]]], data: st.DataObject) -> None:
    capacity, paths = network
    weight = np.array(data.draw(st.lists(st.sampled_from([1.0, 2.0, 0.3]), min_size=len(paths), max_size=len(paths))))
    fluid = FluidNetwork(capacity)
    for path, flow_weight in zip(paths, weight, strict=True):
        fluid.add(path, weight=float(flow_weight))
    assert_max_min(capacity, paths, fluid.rates_Bps(), weight)
    assert_max_min(capacity, paths, max_min_rates(capacity, paths, weight), weight)


@given(workloads())
@settings(max_examples=150)
def test_batch_equals_the_definition_in_time(
    workload: tuple[Floats, list[float], list[float], list[list[int]]],
) -> None:
    assert simulate_flows(*workload) == pytest.approx(finish_times(*workload), rel=RELATIVE)


def random_path(rng: np.random.Generator, links: int) -> list[int]:
    path: list[int] = rng.permutation(links)[: rng.integers(1, min(links, 7) + 1)].tolist()
    return path


@pytest.mark.parametrize("seed", range(12))
def test_rates_equal_the_definition_after_each_of_many_adds_and_removes(seed: int) -> None:
    """Networks from crowded to sparse; equal and unequal capacities; weights; caps; several changes at one instant."""
    rng = np.random.default_rng(seed)
    links = int(rng.choice([1, 4, 20, 120]))
    capacity = rng.choice([1.0, 2.0, 10.0], links) if seed % 2 else rng.uniform(0.5, 100.0, links)
    fluid = FluidNetwork(capacity)
    present: dict[int, tuple[list[int], float, float]] = {}
    for _ in range(150):
        for _ in range(rng.integers(1, 4)):
            if present and rng.random() < 0.35 + 0.3 * (len(present) > 60):
                flow = int(rng.choice(list(present)))
                del present[flow]
                fluid.remove(flow)
            else:
                path = random_path(rng, links)
                weight = float(rng.choice([1.0, 1.0, 4.0, 0.7]))
                cap_Bps = float(rng.choice([np.inf, np.inf, rng.uniform(0.01, 3.0)]))
                present[fluid.add(path, weight=weight, cap_Bps=cap_Bps)] = (path, weight, cap_Bps)
        assert fluid.flows == list(present)
        paths, weights, caps = zip(*present.values(), strict=True) if present else ((), (), ())
        expected = max_min_rates(capacity, paths, weights, caps)
        assert fluid.rates_Bps() == pytest.approx(expected, rel=RELATIVE)
        assert fluid.link_rate_Bps() == pytest.approx(
            link_loads(capacity, list(paths), expected), rel=RELATIVE, abs=1e-12
        )


@given(workloads(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_order_of_flows_and_links_does_not_matter(workload: Any, random: Any) -> None:
    capacity, start, size, paths = workload
    flows, links = list(range(len(paths))), list(range(len(capacity)))
    random.shuffle(flows)
    random.shuffle(links)
    renamed = [[links.index(link) for link in reversed(paths[flow])] for flow in flows]
    shuffled = simulate_flows(capacity[links], np.array(start)[flows], np.array(size)[flows], renamed)
    assert shuffled == pytest.approx(simulate_flows(*workload)[flows], rel=RELATIVE)


@given(workloads(), st.sampled_from([1e-6, 0.37, 1024.0, 1e9]))
@settings(max_examples=60)
def test_scaling_bytes_and_capacities_alike_changes_no_time(workload: Any, scale: float) -> None:
    capacity, start, size, paths = workload
    scaled = simulate_flows(capacity * scale, start, np.array(size) * scale, paths)
    assert scaled == pytest.approx(simulate_flows(*workload), rel=RELATIVE)


def test_the_same_input_gives_the_same_bits() -> None:
    rng = np.random.default_rng(5)
    paths = [random_path(rng, 12) for _ in range(200)]
    workload = rng.uniform(1, 9, 12), rng.uniform(0, 50, 200), rng.uniform(1, 50, 200), paths
    assert simulate_flows(*workload).tobytes() == simulate_flows(*workload).tobytes()


# The network that is driven event by event


def test_a_driven_network_ends_flows_when_the_batch_does() -> None:
    rng = np.random.default_rng(11)
    paths = [random_path(rng, 15) for _ in range(300)]
    capacity, start, size = (
        rng.uniform(1, 9, 15),
        np.sort(rng.integers(0, 60, 300).astype(float)),
        rng.uniform(0, 40, 300),
    )
    fluid = FluidNetwork(capacity)
    for begin, path, flow_B in zip(start, paths, size, strict=True):
        fluid.advance(begin)
        fluid.add(path, flow_B)
    while (end := fluid.next_completion_s()) < np.inf:
        fluid.advance(end)
    finish_s = np.full(300, np.nan)
    completed = fluid.pop_completed()
    for flow, at in completed:
        finish_s[flow] = at
    assert [at for _, at in completed] == sorted(finish_s)
    assert finish_s.tolist() == simulate_flows(capacity, start, size, paths).tolist()
    assert fluid.pop_completed() == []
    assert fluid.flows == []


def test_polled_counters_show_what_passed_at_any_instant() -> None:
    fluid = FluidNetwork([10.0, 4.0])
    first, second, third = fluid.add([0], 160.0), fluid.add([0, 1], 40.0), fluid.add([1], 100.0)
    assert fluid.rates_Bps().tolist() == [8.0, 2.0, 2.0]
    assert fluid.link_rate_Bps().tolist() == [10.0, 4.0]
    assert fluid.link_carried_B().tolist() == [0.0, 0.0]
    fluid.advance(5.0)
    assert fluid.link_carried_B().tolist() == [50.0, 20.0]
    assert (fluid.sent_B(first), fluid.sent_B(second)) == (40.0, 10.0)
    fluid.advance(25.0)
    assert fluid.pop_completed() == [Completion(first, 20.0), Completion(second, 20.0)]
    assert fluid.link_rate_Bps().tolist() == [0.0, 4.0]
    assert fluid.link_carried_B().tolist() == [200.0, 100.0]
    assert fluid.remove(third) == 60.0
    fluid.advance(1000.0)
    assert fluid.link_carried_B().tolist() == [200.0, 100.0]


@given(workloads())
@settings(max_examples=60)
def test_links_carry_exactly_the_bytes_of_their_flows_and_never_count_backwards(workload: Any) -> None:
    capacity, start, size, paths = workload
    fluid = FluidNetwork(capacity)
    before = fluid.link_carried_B()
    for flow in np.argsort(start, kind="stable"):
        elapsed_s = start[flow] - fluid.clock_s
        fluid.advance(start[flow])
        fluid.add(paths[flow], size[flow])
        carried = fluid.link_carried_B()
        assert (carried >= before * (1 - RELATIVE)).all()
        most_B = capacity * elapsed_s + RELATIVE * carried + np.finfo(float).tiny  # below it, floats round coarsely
        assert (carried - before <= most_B).all()
        before = carried
    while (end := fluid.next_completion_s()) < np.inf:
        fluid.advance(end)
    assert fluid.link_carried_B() == pytest.approx(link_loads(capacity, paths, np.array(size)), rel=1e-12)
    assert fluid.link_rate_Bps().tolist() == [0.0] * len(capacity)


def test_a_background_flow_lasts_until_it_is_removed() -> None:
    fluid = FluidNetwork([10.0])
    background, transfer = fluid.add([0]), fluid.add([0], 100.0)
    fluid.advance(10.0)
    assert fluid.next_completion_s() == 20.0
    assert fluid.remove(background) == 50.0
    assert fluid.next_completion_s() == 15.0
    fluid.advance(15.0)
    assert fluid.pop_completed() == [Completion(transfer, 15.0)]
    assert fluid.next_completion_s() == np.inf


def test_a_capped_flow_leaves_the_rest_to_the_others() -> None:
    fluid = FluidNetwork([10.0])
    udp = fluid.add([0], cap_Bps=2.0)
    assert fluid.rate_Bps(udp) == 2.0
    fluid.add([0])
    assert fluid.rates_Bps().tolist() == [2.0, 8.0]
    for _ in range(8):
        fluid.add([0])
    assert fluid.rate_Bps(udp) == 1.0
    assert len(fluid.link_rate_Bps()) == len(fluid.link_carried_B()) == 1


def test_a_flow_of_weight_four_is_four_stripes() -> None:
    whole, striped = FluidNetwork([10.0, 3.0]), FluidNetwork([10.0, 3.0])
    whole.add([0], 100.0, weight=4.0)
    for _ in range(4):
        striped.add([0], 25.0)
    for network in (whole, striped):
        network.add([0, 1], 1000.0)
        network.add([0], 1000.0)
        network.advance(60.0)
    assert whole.link_carried_B() == pytest.approx(striped.link_carried_B())
    assert whole.pop_completed()[0].finish_s == pytest.approx(striped.pop_completed()[0].finish_s)


def test_rooms_grow_for_many_flows_long_paths_and_many_caps() -> None:
    fluid = FluidNetwork([1000.0] * 30)
    for flow in range(500):
        fluid.add([flow % 30], 100.0, cap_Bps=1.0 if flow % 3 else np.inf)
        if flow % 100 == 0:
            fluid.advance(fluid.clock_s + 0.01)
    assert fluid.add(list(range(30)), 10.0) == 500
    assert fluid.rates_Bps()[1] == 1.0
    fluid.advance(1000.0)
    assert sorted(flow for flow, _ in fluid.pop_completed()) == list(range(501))


def test_advancing_to_now_is_harmless_and_the_past_is_closed() -> None:
    fluid = FluidNetwork([10.0], start_s=7.0)
    fluid.add([0], 10.0)
    fluid.advance(7.0)
    assert fluid.pop_completed() == []
    fluid.advance(8.0)
    assert fluid.pop_completed() == [Completion(0, 8.0)]
    with pytest.raises(ValueError, match=r"to_s is 7.5"):
        fluid.advance(7.5)


# Bad input


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("capacity", "start", "size", "paths", "message"),
    [
        ([10.0, NAN], [0.0], [1.0], [[0]], "capacity_Bps: link 1 has nan"),
        ([INF], [0.0], [1.0], [[0]], "capacity_Bps: link 0 has inf"),
        ([10.0, 0.0], [0.0], [1.0], [[0]], "capacity_Bps: link 1 has 0"),
        ([-3.0], [0.0], [1.0], [[0]], "capacity_Bps: link 0 has -3"),
        ([[10.0]], [0.0], [1.0], [[0]], "capacity_Bps has 2 dimensions"),
        (["10"], [0.0], [1.0], [[0]], "capacity_Bps has type"),
        ([10.0], [0.0, -1.0], [1.0, 1.0], [[0], [0]], "start_s: flow 1 has -1"),
        ([10.0], [NAN], [1.0], [[0]], "start_s: flow 0 has nan"),
        ([10.0], [INF], [1.0], [[0]], "start_s: flow 0 has inf"),
        ([10.0], 0.0, [1.0], [[0]], "start_s has 0 dimensions"),
        ([10.0], [True], [1.0], [[0]], "start_s has type bool"),
        ([10.0], [0.0], [-1.0], [[0]], "size_B: flow 0 has -1"),
        ([10.0], [0.0], [NAN], [[0]], "size_B: flow 0 has nan"),
        ([10.0], [0.0], [INF], [[0]], "size_B: flow 0 has inf"),
        ([10.0], [0.0], [1.0, 1.0], [[0]], "lengths differ: 1 start_s, 2 size_B, 1 paths"),
        ([10.0], [0.0], [1.0], [], "lengths differ: 1 start_s, 1 size_B, 0 paths"),
        ([10.0], [0.0], [1.0], [[]], "flow 0 has an empty path"),
        ([10.0] * 3, [0.0] * 2, [1.0] * 2, [[0], [2, 1, 2]], "flow 1 is cyclic: it crosses link 2 twice"),
        ([10.0] * 3, [0.0] * 2, [1.0] * 2, [[0], [1, 3]], "flow 1 crosses link 3; there are links 0 to 2"),
        ([10.0] * 3, [0.0] * 2, [1.0] * 2, [[-1], [1]], "flow 0 crosses link -1"),
        ([10.0], [0.0], [1.0], [[0.0]], "flow 0 has link indices of type float64"),
        ([10.0], [0.0], [1.0], [[False]], "flow 0 has link indices of type bool"),
        ([10.0], [0.0], [1.0], [[[0]]], "flow 0 has a path of 2 dimensions"),
        ([10.0], [0.0], [1.0], [0], "flow 0 has a path of 0 dimensions"),
        ([10.0] * 2, [0.0], [1.0], [["a"]], "flow 0 has link indices of type <U1"),
    ],
)
def test_ill_formed_input_is_named_in_one_line(capacity: Any, start: Any, size: Any, paths: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        simulate_flows(capacity, start, size, paths)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": []}, "flow 0 has a path of shape"),
        ({"path": [0, 0]}, "flow 0 is cyclic: it crosses link 0 twice"),
        ({"path": [2]}, "flow 0 crosses link 2; there are links 0 to 1"),
        ({"path": [-1]}, "flow 0 crosses link -1"),
        ({"path": [0.5]}, "flow 0 has link indices of type float64"),
        ({"path": [0], "size_B": -1.0}, "flow 0 has size_B -1"),
        ({"path": [0], "size_B": NAN}, "flow 0 has size_B nan"),
        ({"path": [0], "weight": 0.0}, "flow 0 has weight 0"),
        ({"path": [0], "weight": INF}, "flow 0 has weight inf"),
        ({"path": [0], "cap_Bps": 0.0}, "flow 0 has cap_Bps 0"),
        ({"path": [0], "cap_Bps": NAN}, "flow 0 has cap_Bps nan"),
    ],
)
def test_a_refused_flow_leaves_the_network_as_it_was(arguments: dict[str, Any], message: str) -> None:
    fluid = FluidNetwork([10.0, 10.0])
    with pytest.raises(ValueError, match=message):
        fluid.add(**arguments)
    assert fluid.add([0, 1], 100.0) == 0
    assert fluid.next_completion_s() == 10.0


def test_a_flow_that_has_left_cannot_be_asked_about() -> None:
    fluid = FluidNetwork([10.0])
    flow = fluid.add([0], 100.0)
    fluid.advance(10.0)
    for question in (fluid.remove, fluid.rate_Bps, fluid.sent_B):
        with pytest.raises(ValueError, match="flow 0 is not in the network"):
            question(flow)


# It always stops


def test_flows_too_slow_for_the_clock_are_reported_not_waited_for() -> None:
    with pytest.raises(NoProgressError, match="1 flows never end, the first is flow 1"):
        simulate_flows([1e-300, 1.0], [0.0, 0.0], [1.0, 1e300], [[1], [0]])


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_sizes_too_small_for_the_clock_still_end(order: tuple[int, ...]) -> None:
    start = np.array([1e12, 1e12, 1e12 + 1])[list(order)]
    finish_s = simulate_flows([1e9], start, [1e-9, 1.0, 1e-300], [[0]] * 3)
    assert finish_s == pytest.approx(start)


def test_extreme_and_equal_numbers_do_not_hang() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        links, flows = 6, 60
        capacity = 10.0 ** rng.integers(-9, 13, links)
        start = rng.choice([0.0, 0.1, 0.1 + 1e-17, 1 / 3, 1e9], flows)
        size = 10.0 ** rng.integers(-12, 13, flows)
        finish_s = simulate_flows(capacity, start, size, [random_path(rng, links) for _ in range(flows)])
        assert (np.isfinite(finish_s) & (finish_s >= start)).all()
