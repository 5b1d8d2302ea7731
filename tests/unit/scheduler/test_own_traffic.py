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
    own_Bps = in_flight.own_Bps(1.0, 0.1)
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
    own_Bps = in_flight.own_Bps(1.0, 0.0)
    assert own_Bps[INTO_SERVER_1] == NIC_BPS / 4


def test_what_ended_long_ago_is_forgotten() -> None:
    in_flight = InFlight(TABLE)
    in_flight.start(0, 0, 2, 1.0, 0.0)
    in_flight.stop(0, 1e9, 1.0)
    in_flight.start(1, 0, 2, 1.0, 1.0)
    in_flight.stop(1, 1e9, 2.0 + REMEMBERED_S)
    assert in_flight.own_Bps(1.0, 0.1)[INTO_SERVER_1] == 0
