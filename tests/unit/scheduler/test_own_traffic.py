"""What the oracle shows of our own transfers is not mistaken for somebody else's."""

from __future__ import annotations

import numpy as np
import pytest

from scheduler import NetworkSample, View
from scheduler.in_flight import REMEMBERED_S, InFlight
from tests.support.one_decision import FABRIC, KAPPA, TABLE, candidates

INTO_SERVER_1 = FABRIC.link_index["tor0", "srv1"]
NIC_BPS = 25e9


def sampled(utilisation: float, at_s: float) -> NetworkSample:
    links = np.zeros(len(FABRIC.links))
    links[INTO_SERVER_1] = utilisation
    return NetworkSample(at_s, links)


@pytest.mark.parametrize(
    ("started_s", "ended_s", "expected"),
    [
        (0.0, 1.0, 1.0),  # all of the window from 0.9 to 1.0
        (0.95, 1.5, 0.5),
        (0.0, 0.92, 0.2),
        (0.0, 0.9, 0.0),
        (1.0, 2.0, 0.0),
        (0.93, 0.95, 0.2),
    ],
)
def test_a_transfer_counts_by_its_part_of_the_samples_window(started_s: float, ended_s: float, expected: float) -> None:
    in_flight = InFlight(TABLE)
    in_flight.start(0, 0, 2, 1.0, started_s)  # the prediction was wrong
    in_flight.stop(0, 10e9 * (ended_s - started_s), ended_s)
    own_Bps, _ = in_flight.own_Bps(1.0, 0.1)
    assert own_Bps[INTO_SERVER_1] == pytest.approx(10e9 * expected)
    assert own_Bps[FABRIC.link_index["h2", "srv1"]] == 0


def test_a_transfer_that_ended_after_the_sample_leaves_its_path_free() -> None:
    """It filled the link while the counters were read, and is over when the sample arrives."""
    in_flight = InFlight(TABLE)
    network = View(
        TABLE, in_flight, kv_bytes_per_token=KAPPA, stripes=4, transfer_full=False,
        rng=np.random.default_rng(0), window_s=0.1,
    )  # fmt: skip
    in_flight.start(0, 0, 2, NIC_BPS, 0.5)
    in_flight.stop(0, NIC_BPS * 0.6, 1.1)
    network.adopt(sampled(1.0, 1.0))
    assert network.available_Bps(candidates())[0] == pytest.approx(NIC_BPS)


def test_foreign_traffic_beside_our_own_stays_foreign() -> None:
    in_flight = InFlight(TABLE)
    in_flight.start(0, 0, 2, NIC_BPS / 4, 0.0)
    own_Bps, _ = in_flight.own_Bps(1.0, 0.0)
    assert own_Bps[INTO_SERVER_1] == NIC_BPS / 4


def test_what_ended_long_ago_is_forgotten() -> None:
    in_flight = InFlight(TABLE)
    in_flight.start(0, 0, 2, 1.0, 0.0)
    in_flight.stop(0, 1e9, 1.0)
    in_flight.start(1, 0, 2, 1.0, 1.0)
    in_flight.stop(1, 1e9, 2.0 + REMEMBERED_S)
    assert in_flight.own_Bps(1.0, 0.1)[0][INTO_SERVER_1] == 0


def watched() -> tuple[InFlight, View]:
    """Our own books and a view of counters that are read every 0.1 s."""
    in_flight = InFlight(TABLE)
    network = View(
        TABLE, in_flight, kv_bytes_per_token=KAPPA, stripes=4, transfer_full=False,
        rng=np.random.default_rng(0), window_s=0.1,
    )  # fmt: skip
    return in_flight, network


def test_one_slow_transfer_of_ours_does_not_erase_a_hot_spot() -> None:
    """Predicted at 25 GB/s it moves 8.33 beside 16.67 of others on a full link of 25: the next gets 8.33, not 25."""
    in_flight, network = watched()
    in_flight.start(0, 0, 2, NIC_BPS, 0.5, kv_bytes=5e9)  # predicted: 0.2 s; real: 0.6 s, till 1.1
    network.move_to(0.65)
    network.adopt(sampled(1.0, 0.65))
    assert network.others_Bps is not None
    assert network.others_Bps[INTO_SERVER_1] == pytest.approx(0, abs=1)  # so far all may be ours
    network.move_to(1.0)  # 0.5 s for 5 GB: it moved 10 GB/s at most
    assert network.others_Bps[INTO_SERVER_1] == pytest.approx(15e9)
    in_flight.stop(0, 5e9, 1.1)  # 8.33 GB/s
    network.move_to(1.2)
    assert network.others_Bps[INTO_SERVER_1] == pytest.approx(NIC_BPS - 5e9 / 0.6)
    assert network.available_Bps(candidates())[0] == pytest.approx(NIC_BPS / 3)  # 8.33, the share of a full link, too


def test_what_a_transfer_moved_is_final_once_it_has_ended() -> None:
    in_flight, network = watched()
    in_flight.start(0, 0, 2, NIC_BPS, 0.5, kv_bytes=5e9)
    network.move_to(0.65)
    network.adopt(sampled(1.0, 0.65))
    in_flight.stop(0, 5e9, 0.7)  # as predicted
    for now_s in (0.8, 2.0):
        network.move_to(now_s)
        assert network.others_Bps is not None
        assert network.others_Bps[INTO_SERVER_1] == pytest.approx(0, abs=1)
    network.lose("gone")
    network.move_to(3.0)  # nothing is left to correct
    assert network.others_Bps is None
