"""Port counters to utilisation: what a switch may say, in any order and with any gaps, and what must come of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.counters import UTILISATION_CEILING, LinkCounters, LinkState, PortCounters
from topologies import FabricSpec, build_fattree

FABRIC = build_fattree(FabricSpec())
SERVER = FABRIC.switch_by_name["srv0"]
HOST_PORT, UP_PORT = 1, 3
RATE_SCALE = 2500.0
POLL_S = 0.1
UPLINK_BPS = FABRIC.spec.nic_rate_bps / RATE_SCALE


class Feed:
    """A switch that reports one port, and the links that it tells of."""

    def __init__(self, port: int = UP_PORT) -> None:
        self.counters = LinkCounters(FABRIC, rate_scale=RATE_SCALE, poll_s=POLL_S)
        self.port = port

    def reply(self, at_s: float, tx: int, rx: int = 0, *, alive_s: float = 0.0, late_s: float = 0.0) -> None:
        ports = [PortCounters(self.port, rx, tx, alive_s)]
        self.counters.record(SERVER.dpid, ports, requested_s=at_s - 0.001, arrived_s=at_s + late_s)

    def link(self, name: str = "srv0>tor0") -> LinkState:
        return self.counters.links[FABRIC.link_by_name[name].index]


def bytes_at(utilisation: float, seconds: float) -> int:
    return round(utilisation * UPLINK_BPS / 8 * seconds)


def test_half_of_the_capacity_is_a_utilisation_of_one_half() -> None:
    feed = Feed()
    feed.reply(10.0, 1_000)
    assert feed.link().utilisation is None
    feed.reply(10.1, 1_000 + bytes_at(0.5, 0.1))
    assert feed.link().utilisation == pytest.approx(0.5, rel=1e-4)
    assert feed.link().carried_bytes == bytes_at(0.5, 0.1)
    assert feed.link().sampled_s == pytest.approx(10.099)  # as old as its request


def test_a_host_link_is_measured_where_the_switch_receives() -> None:
    feed = Feed(port=HOST_PORT)
    feed.reply(0.0, tx=0, rx=0)
    feed.reply(0.1, tx=700, rx=900)
    assert (feed.link("h0>srv0").carried_bytes, feed.link("srv0>h0").carried_bytes) == (900, 700)


def test_the_switch_clock_makes_a_late_reply_harmless() -> None:
    feed = Feed()
    for step in range(6):
        feed.reply(step * 0.1, bytes_at(0.8, step * 0.1), alive_s=50 + step * 0.1, late_s=0.06 * (step % 2))
        if step:
            assert feed.link().utilisation == pytest.approx(0.8, rel=1e-3)


def test_foreign_switches_and_ports_are_ignored() -> None:
    feed = Feed()
    feed.counters.record(7, [PortCounters(1, 1, 1, 0)], requested_s=0, arrived_s=0)
    feed.counters.record(SERVER.dpid, [PortCounters(0xFFFFFFFE, 1, 1, 0)], requested_s=0, arrived_s=0)
    assert all(link.last is None for link in feed.counters.links)


steps = st.lists(
    st.tuples(
        st.floats(0.0, 1.0),  # utilisation until the next reply
        st.floats(0.051, 3.0),  # seconds until then: some polls are missed
        st.integers(1, 3),  # how often the reply is delivered
    ),
    min_size=1,
    max_size=30,
)


@given(steps, st.sampled_from([2**32, 2**64]), st.integers(0, 2**32 - 1), st.booleans())
def test_bytes_and_samples_survive_gaps_repeats_and_wraps(
    steps: list[tuple[float, float, int]], modulus: int, below_the_wrap: int, has_clock: bool
) -> None:
    feed, now_s, total = Feed(), 100.0, 0
    start = modulus - 1 - below_the_wrap
    feed.reply(now_s, start, alive_s=now_s if has_clock else 0.0)
    for utilisation, elapsed_s, times in steps:
        now_s += elapsed_s
        carried = int(utilisation * UPLINK_BPS / 8 * elapsed_s)
        total += carried
        for _ in range(times):
            feed.reply(now_s, (start + total) % modulus, alive_s=now_s if has_clock else 0.0)
        assert feed.link().carried_bytes == total
        assert feed.link().utilisation == pytest.approx(utilisation, abs=1e-3)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.floats(0.0, 10.0), st.floats(0.0, 20.0)), max_size=30))
def test_whatever_a_switch_says_utilisation_stays_in_range_and_bytes_never_shrink(
    replies: list[tuple[int, float, float]],
) -> None:
    feed, now_s, carried = Feed(), 0.0, 0
    for counter, elapsed_s, alive_s in replies:
        now_s += elapsed_s
        feed.reply(now_s, counter, alive_s=alive_s)
        link = feed.link()
        assert link.utilisation is None or 0 <= link.utilisation <= UTILISATION_CEILING
        assert link.carried_bytes >= carried
        assert link.sampled_s is None or link.sampled_s <= now_s
        carried = link.carried_bytes


def test_a_counter_from_zero_again_gives_no_sample_until_the_next_reply() -> None:
    feed = Feed()
    feed.reply(0.0, 0)
    feed.reply(0.1, 10_000_000_000)
    before = (feed.link().utilisation, feed.link().sampled_s)
    feed.reply(0.2, 500)
    assert (feed.link().utilisation, feed.link().sampled_s) == before
    assert feed.link().carried_bytes == 10_000_000_500
    feed.reply(0.3, 500 + bytes_at(0.25, 0.1))
    assert feed.link().utilisation == pytest.approx(0.25, rel=1e-3)


def test_a_new_connection_counts_the_bytes_in_between_but_not_the_time() -> None:
    feed = Feed()
    feed.reply(0.0, 0)
    feed.reply(0.1, bytes_at(1.0, 0.1))
    feed.counters.disconnected(SERVER.dpid)
    feed.reply(9.0, bytes_at(1.0, 0.1) + 5_000)
    assert feed.link().utilisation == pytest.approx(1.0, rel=1e-3)
    assert feed.link().sampled_s == pytest.approx(0.099)
    assert feed.link().carried_bytes == bytes_at(1.0, 0.1) + 5_000
    feed.reply(9.1, bytes_at(1.0, 0.1) + 5_000)
    assert feed.link().utilisation == 0


def test_readings_too_close_together_are_one_sample() -> None:
    feed = Feed()
    feed.reply(0.0, 0)
    feed.reply(0.04, bytes_at(0.5, 0.04))
    assert feed.link().utilisation is None
    feed.reply(0.1, bytes_at(0.5, 0.1))
    assert feed.link().utilisation == pytest.approx(0.5, rel=1e-3)


def test_one_silent_switch_stops_the_time_of_the_oldest_sample() -> None:
    counters = LinkCounters(FABRIC, rate_scale=RATE_SCALE, poll_s=POLL_S)
    ports = [PortCounters(port, 0, 0, 0.0) for port in range(1, 9)]

    def sweep(at_s: float, silent: str = "") -> None:
        for switch in FABRIC.switches:
            if switch.name != silent:
                counters.record(switch.dpid, ports, requested_s=at_s, arrived_s=at_s + 0.005)

    sweep(0.0)
    assert counters.oldest_s is None
    sweep(0.1, silent="core3")
    assert counters.oldest_s is None
    sweep(0.2)
    assert counters.oldest_s == 0.2
    sweep(0.3)
    sweep(0.4, silent="agg1")
    sweep(0.5, silent="agg1")
    assert counters.oldest_s == 0.3
    sweep(0.6)
    assert counters.oldest_s == 0.6
