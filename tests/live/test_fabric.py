"""Facts of one fabric that is up, judged on numbers that a probe measured inside a sandbox (`measurements`)."""

from __future__ import annotations

from statistics import mean
from typing import Any

import pytest

from testbed.emulation import EmulationSpec
from topologies.fabric import HOPS_OF_TIER
from topologies.shaping import Shape

pytestmark = [pytest.mark.live, pytest.mark.slow]

Numbers = dict[str, Any]

HEADERS_B = 14 + 20 + 20 + 12
"""Ethernet, IPv4 (RFC 791), TCP (RFC 9293) and its timestamps (RFC 7323, padded), in every frame of a connection."""

SYN_EXTRA_B = 8
"""Beyond those: maximum segment size, SACK permitted and window scale, padded."""

ARP_B = 42
ARP_FRAMES_MAX = 12
"""What two hosts may send each way beside a transfer: each asks for the other's address, three times by broadcast and
three times by unicast at the most (`mcast_solicit` and `ucast_solicit` of Linux), and answers as often."""

MSS_B = 1448
SACK_MAX_B = 28
"""Three blocks beside the timestamps (RFC 2018), padded."""

REORDERED_ACKS_MAX = 8
"""Acknowledgements with such a block though nothing was lost: a sender that changes processors reorders some frames."""


def by_tier(measured: Numbers, tier: int, stripes: int = 1) -> Numbers:
    found: Numbers
    (found,) = (one for one in measured["transfers"] if (one["tier"], one["stripes"]) == (tier, stripes))
    return found


def payload_seen(frames: Numbers, stripes: int) -> int:
    """Bytes that a port counted, without the headers of its frames."""
    seen: int = frames["bytes"] - HEADERS_B * frames["packets"] - SYN_EXTRA_B * stripes
    return seen


def burst_share(transfer: Numbers) -> float:
    """What an idle port lets pass at once, as a share of a transfer: it comes on top of the port's rate."""
    shape = Shape(transfer["rate_bps"], burst_s=transfer["burst_ms"] / 1e3)
    return float((shape.burst_bytes + MSS_B + HEADERS_B) / transfer["bytes"])


def test_every_instance_reaches_every_other(on_one_and_two: Numbers) -> None:
    reach = on_one_and_two["reach"]
    assert len(reach) == 16
    assert all(set(taken) == set(reach) - {source} for source, taken in reach.items())


@pytest.mark.parametrize("tier", [0, 1, 2, 3])
def test_a_transfer_crosses_one_path_of_its_tier_and_no_other_link(on_one_and_two: Numbers, tier: int) -> None:
    transfer = by_tier(on_one_and_two, tier)
    assert len(transfer["carriers"]) == HOPS_OF_TIER[tier]
    assert set(transfer["carriers"]) in [set(path) for path in transfer["paths"]]


@pytest.mark.speed
@pytest.mark.parametrize(("tier", "stripes"), [(1, 1), (2, 1), (3, 1), (1, 4)])
def test_a_transfer_alone_fills_its_path(on_one_and_two: Numbers, tier: int, stripes: int) -> None:
    transfer = by_tier(on_one_and_two, tier, stripes)
    filled = transfer["bytes"] * 8 / transfer["seconds"] / transfer["rate_bps"]
    assert 0.93 <= filled <= MSS_B / (MSS_B + HEADERS_B) + 0.005 + burst_share(transfer)


@pytest.mark.speed
def test_four_stripes_across_the_pods_keep_their_fullest_link_busy(on_one_and_two: Numbers) -> None:
    transfer = by_tier(on_one_and_two, 3, stripes=4)
    assert 0.97 <= transfer["busiest_s"] / transfer["seconds"] <= 1.005 + burst_share(transfer)


@pytest.mark.parametrize(("tier", "stripes"), [(0, 1), (1, 1), (2, 1), (3, 1), (1, 4), (3, 4)])
def test_switches_count_what_workers_sent_and_its_headers(on_one_and_two: Numbers, tier: int, stripes: int) -> None:
    transfer = by_tier(on_one_and_two, tier, stripes)
    surplus = payload_seen(transfer["delivered"], stripes) - transfer["wire_bytes"]
    arp_B = ARP_FRAMES_MAX * (HEADERS_B - ARP_B)
    assert transfer["received_bytes"] == transfer["bytes"]
    assert -arp_B <= surplus <= transfer["retransmitted"] * MSS_B  # a retransmitted frame may arrive twice


@pytest.mark.parametrize(("tier", "stripes"), [(0, 1), (1, 1), (2, 1), (3, 1), (1, 4), (3, 4)])
def test_what_comes_back_is_acknowledgements_only(on_one_and_two: Numbers, tier: int, stripes: int) -> None:
    transfer = by_tier(on_one_and_two, tier, stripes)
    surplus = payload_seen(transfer["returned"], stripes) - transfer["ack_bytes"]
    arp_B = ARP_FRAMES_MAX * (HEADERS_B - ARP_B)
    out_of_order = transfer["returned"]["packets"] if transfer["retransmitted"] else REORDERED_ACKS_MAX
    assert -arp_B <= surplus <= SACK_MAX_B * out_of_order


@pytest.mark.speed
def test_eight_pairs_across_the_pods_reach_the_bisection(on_one_and_two: Numbers) -> None:
    bisection = on_one_and_two["bisection"]
    assert sum(bisection["goodput_bps"]) >= 0.80 * bisection["bisection_bps"]


def test_every_core_carries_its_share(on_one_and_two: Numbers) -> None:
    packets = on_one_and_two["bisection"]["packets_of_core"]
    assert len(packets) == 4
    assert min(packets.values()) >= 0.10 * sum(packets.values())


@pytest.mark.speed
def test_select_groups_leave_cores_idle_and_lose_the_bisection(select_groups: Numbers) -> None:
    bisection = select_groups["bisection"]
    packets = bisection["packets_of_core"]
    assert sum(count >= 0.10 * sum(packets.values()) for count in packets.values()) < 4
    assert sum(bisection["goodput_bps"]) < 0.80 * bisection["bisection_bps"]


@pytest.mark.speed
def test_a_port_that_is_offered_more_than_its_rate_carries_its_rate(measured: Numbers) -> None:
    assert measured["overload"]["carried_of_rate"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.speed
def test_what_comes_back_takes_nothing_from_a_full_port(measured: Numbers) -> None:
    """Acknowledgements of as much the other way would be 2 % of it."""
    assert measured["both_ways"]["payload_of_rate"] > 0.985


@pytest.mark.speed
def test_its_connections_share_it_alike(measured: Numbers) -> None:
    received = measured["overload"]["received_bytes"]
    assert received["3"] / received["1"] == pytest.approx(3.0, rel=0.1)


@pytest.mark.speed
def test_a_congested_port_costs_an_idle_pair_no_packet(deep_queues: Numbers) -> None:
    isolation = deep_queues["isolation"]
    assert isolation["busiest_port_utilisation"] > 0.95
    assert (isolation["sent"], isolation["received"]) == (60, 60)


@pytest.mark.speed
def test_it_would_without_the_send_buffer_lease_where_switches_share_one(
    kernel_default: Numbers, emulation: dict[str, Any]
) -> None:
    isolation = kernel_default["isolation"]
    assert isolation["busiest_port_utilisation"] > 0.95
    assert (isolation["received"] < isolation["sent"]) == (EmulationSpec.model_validate(emulation).datapath == "user")


def test_switches_run_on_the_datapath_that_is_in_force(measured: Numbers, emulation: dict[str, Any]) -> None:
    kind = {"user": "netdev@ovs-netdev", "afxdp": "netdev@ovs-netdev", "kernel": "system@ovs-system"}[
        EmulationSpec.model_validate(emulation).datapath
    ]
    assert measured["datapaths"].startswith(f"{kind}:")
    assert ("(afxdp:" in measured["datapaths"]) == (EmulationSpec.model_validate(emulation).datapath == "afxdp")


@pytest.mark.parametrize("load", [0.0, 0.5, 1.0])
def test_the_oracle_knows_the_load_of_a_link(measured: Numbers, load: float) -> None:
    (seen,) = (one for one in measured["oracle"] if one["load"] == load)
    assert len(seen["samples"]) >= 10
    assert abs(mean(seen["samples"]) - seen["truth"]) <= 0.05


@pytest.mark.speed
@pytest.mark.parametrize("load", [0.0, 0.5])
def test_the_paced_load_is_the_one_asked_for(measured: Numbers, load: float) -> None:
    (seen,) = (one for one in measured["oracle"] if one["load"] == load)
    assert abs(seen["truth"] - load) <= 0.05


@pytest.mark.parametrize("state", ["stopped", "killed"])
def test_a_sample_only_ages_once_the_controller_is_gone(measured: Numbers, state: str) -> None:
    seen = measured["stopped_controller"][state]
    assert all(sampled_s <= seen["at_s"] for sampled_s in seen["sampled_s"])
    assert seen["ages_s"] == sorted(seen["ages_s"])
    assert seen["ages_s"][-1] >= 1.4


@pytest.mark.parametrize("state", ["fresh", "resumed"])
def test_samples_are_fresh_while_the_controller_works(measured: Numbers, state: str) -> None:
    seen = measured["stopped_controller"][state]
    assert len(seen["sampled_s"]) >= 5
    assert min(seen["ages_s"]) < 0.1


def test_traffic_outlives_the_controller(measured: Numbers) -> None:
    assert measured["stopped_controller"]["bytes_after"] == 1_000_000


def test_every_interface_is_shaped_to_the_rate_of_the_spec(on_one_and_two: Numbers) -> None:
    rates = on_one_and_two["rates"]
    assert len(rates) == 2 * (16 + 8 + 8 + 8)  # both ends of every cable
    for interface, shaped in rates.items():
        assert shaped["shown"] == [pytest.approx(shaped["asked"], rel=1e-3)] * len(shaped["shown"]), interface
        assert shaped["classes"] == 1, interface


@pytest.mark.speed
def test_rates_beyond_mininets_limit_are_asked_for_and_shaped(measured: Numbers) -> None:
    shaper = measured["fast_shaper"]
    assert shaper["asked_bps"] > 1e9
    assert shaper["unshaped_bps"] > 2 * shaper["asked_bps"]
    assert 0.75 * shaper["asked_bps"] <= shaper["shaped_bps"] <= shaper["asked_bps"]


def test_a_transfer_survives_the_failure_of_a_core(measured: Numbers) -> None:
    failed = measured["failed_core"]
    assert failed["packets_before"] > 0
    assert failed["received_bytes"] == failed["bytes"]
    assert failed["packets_after"] == 0


def test_the_fabric_stays_connected_without_one_core(measured: Numbers) -> None:
    reach = measured["failed_core"]["reach"]
    assert all(set(taken) == set(reach) - {source} for source, taken in reach.items())


def test_the_documented_client_reads_a_live_oracle(measured: Numbers) -> None:
    (line,) = measured["documented_client"].splitlines()
    assert line.startswith("srv0>tor0 ")
    left_gbps, age_s = float(line.split()[1]), float(line.split()[4])
    assert left_gbps == pytest.approx(200, rel=0.02)
    assert 0 <= age_s < 2
