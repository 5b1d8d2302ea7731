"""What ALTO says of pairs of instances, held against the fabric's own paths and rates."""

from __future__ import annotations

import numpy as np
import pytest

from controller.alto.fabric_costs import COMPETITORS, METRICS, FabricCosts
from scheduler.view import BACKGROUND_COMPETITORS
from topologies import HOPS_OF_TIER, Fabric, FabricSpec, build_fattree

FABRICS = {
    "default": FabricSpec(),
    "three pods": FabricSpec(pods=3, racks_per_pod=3, servers_per_rack=1, aggregations_per_pod=3, cores_per_group=1),
    "one instance a server": FabricSpec(gpus_per_server=4, tor_oversubscription=4),
    "one pod": FabricSpec(pods=1),
}


@pytest.fixture(params=FABRICS, name="fabric")
def _fabric(request: pytest.FixtureRequest) -> Fabric:
    return build_fattree(FABRICS[request.param])


def loaded(fabric: Fabric, **utilisation: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Utilisation of every link: 0, or what is given by name, with `__` for `>`."""
    found = np.zeros(len(fabric.links))
    for name, value in utilisation.items():
        found[fabric.link_by_name[name.replace("__", ">")].index] = value
    return found


def test_an_element_is_all_the_links_that_equal_cost_paths_cross_at_one_step(fabric: Fabric) -> None:
    costs = FabricCosts(fabric)
    members: dict[str, set[int]] = {}
    for source in range(len(fabric.instances)):
        for target in range(len(fabric.instances)):
            if source == target:
                continue
            paths, elements = fabric.paths(source, target), costs.path(source, target)
            assert {len(path) for path in paths} == {len(elements)}
            for at, element in enumerate(elements):
                crossed = {path[at] for path in paths}
                assert members.setdefault(element, crossed) == crossed
    capacity_Bps = {name: sum(fabric.links[at].capacity_bps for at in links) / 8 for name, links in members.items()}
    assert capacity_Bps == pytest.approx(
        {name: costs.capacity_Bps[at] for at, name in enumerate(costs.elements) if name in members}
    )


def test_the_least_element_of_a_path_is_its_bandwidth(fabric: Fabric) -> None:
    """So a client that reads the path vector and its properties computes what the cost map says."""
    costs = FabricCosts(fabric)
    utilisation = np.random.default_rng(1).uniform(0, 1, len(fabric.links))
    left = dict(zip(costs.elements, costs.left_Bps(utilisation), strict=True))
    found = METRICS["bw-available"].values(costs, utilisation)
    for source in range(len(fabric.instances)):
        for target in range(len(fabric.instances)):
            if source != target:
                assert found[source, target] == min(left[element] for element in costs.path(source, target))


def test_an_idle_fabric_offers_its_nominal_rates_in_the_units_of_the_rfc(fabric: Fabric) -> None:
    costs, idle, spec = FabricCosts(fabric), np.zeros(len(fabric.links)), fabric.spec
    found = {name: metric.values(costs, idle) for name, metric in METRICS.items()}
    for source in range(len(fabric.instances)):
        for target in range(len(fabric.instances)):
            if source == target:
                continue
            tier = fabric.tier(source, target)
            assert found["delay-ow"][source, target] == pytest.approx(1e6 * spec.tier_latency_s(tier))  # microseconds
            assert found["hopcount"][source, target] == HOPS_OF_TIER[tier]
            rates_bps = (
                *(spec.nvlink_rate_bps, spec.nic_rate_bps, spec.tor_uplink_rate_bps * spec.aggregations_per_pod),
                spec.core_uplink_rate_bps * spec.aggregations_per_pod * spec.cores_per_group,
            )
            assert found["bw-residual"][source, target] == pytest.approx(min(rates_bps[: tier + 1]) / 8)  # bytes/s
            one_link_bps = (
                spec.nvlink_rate_bps,
                spec.nic_rate_bps,
                spec.tor_uplink_rate_bps,
                spec.core_uplink_rate_bps,
            )
            assert found["tput"][source, target] == pytest.approx(min(one_link_bps[: tier + 1]) / 8)
    assert (found["bw-available"] == found["bw-residual"]).all()


def test_a_busy_link_costs_those_who_cross_it_and_nobody_else() -> None:
    fabric = build_fattree(FabricSpec())
    costs, busy = FabricCosts(fabric), loaded(build_fattree(FabricSpec()), srv0__tor0=0.9)
    left = METRICS["bw-available"].values(costs, busy)
    assert left[0, 2] == pytest.approx(0.1 * 25e9)  # out of server 0
    assert left[2, 0] == pytest.approx(25e9)  # into it
    assert left[0, 1] == pytest.approx(450e9)  # inside it
    shared = METRICS["tput"].values(costs, busy)
    assert shared[0, 2] == pytest.approx(25e9 / 3)  # one of three transfers' worth


def test_a_link_beyond_its_capacity_has_nothing_left_and_still_a_share() -> None:
    fabric = build_fattree(FabricSpec())
    costs, over = FabricCosts(fabric), loaded(fabric, srv0__tor0=1.04)
    assert METRICS["bw-available"].values(costs, over)[0, 2] == 0
    assert METRICS["routingcost"].values(costs, over)[0, 2] == pytest.approx(4e-6 + 1e9 / (25e9 / 3))


def test_half_of_the_uplinks_full_is_half_of_what_equal_cost_links_add_up_to() -> None:
    fabric = build_fattree(FabricSpec(tor_oversubscription=4))
    costs, half = FabricCosts(fabric), loaded(fabric, tor0__agg0=1.0)
    assert METRICS["bw-available"].values(costs, half)[0, 4] == pytest.approx(6.25e9)
    assert METRICS["bw-residual"].values(costs, half)[0, 4] == pytest.approx(12.5e9)


def test_the_share_of_a_full_link_is_what_our_scheduler_assumes() -> None:
    assert COMPETITORS == BACKGROUND_COMPETITORS


def test_the_cost_between_servers_is_the_mean_over_the_pairs_of_their_instances(fabric: Fabric) -> None:
    costs = FabricCosts(fabric)
    of_pair = np.random.default_rng(2).uniform(1, 2, costs.tier.shape)
    found = costs.by_pid(of_pair)
    for p in range(len(costs.pids)):
        for q in range(len(costs.pids)):
            pairs = [
                of_pair[i, j]
                for i in np.flatnonzero(costs.pid_of == p)
                for j in np.flatnonzero(costs.pid_of == q)
                if i != j
            ]
            assert found[p, q] == pytest.approx(np.mean(pairs)) if pairs else np.isnan(found[p, q])


def test_a_fabric_of_too_many_instances_is_refused() -> None:
    with pytest.raises(ValueError, match="2048 instances: a map of all pairs is served for at most 1024"):
        FabricCosts(build_fattree(FabricSpec(pods=32, racks_per_pod=4, servers_per_rack=8)))
