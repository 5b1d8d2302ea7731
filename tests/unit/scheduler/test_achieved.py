"""What earlier transfers got of the predicted bandwidth corrects the prediction, farther tiers no more than nearer."""

from __future__ import annotations

import numpy as np
import pytest

from scenario import Scenario
from scheduler import Dispatcher, NetworkSample
from scheduler.achieved import PRIOR_S, Achieved
from scheduler.policy import new_policy
from tests.support.one_decision import FABRIC, REQUEST, ROLES, candidates, view
from workloads import Request


def test_the_share_is_predicted_over_real_time_from_a_prior_of_two_seconds() -> None:
    achieved = Achieved()
    assert PRIOR_S == 2.0
    achieved.see(3, 1.0, 2.0)
    assert achieved.share.tolist() == [1, 1, 1, 0.75]  # (2 + 1) / (2 + 2)
    achieved.see(3, 1.0, 4.0)
    assert achieved.share.tolist() == [1, 1, 1, 0.5]  # (2 + 2) / (2 + 6)


def test_a_farther_tier_never_gets_a_larger_share_than_a_nearer_one_and_none_more_than_all() -> None:
    achieved = Achieved()
    achieved.see(2, 8.0, 2.0)  # faster than predicted
    assert achieved.share.tolist() == [1, 1, 1, 1]
    achieved.see(1, 0.0, 0.5)
    assert achieved.share == pytest.approx([1, 0.8, 0.8, 0.8])  # 2 / 2.5
    achieved.see(3, 1.0, 4.0)
    assert achieved.share == pytest.approx([1, 0.8, 0.8, 0.5])  # 3 / 6


def test_full_keeps_to_the_rack_where_farther_transfers_took_longer_than_predicted() -> None:
    """Full links into 2 and 3 leave 8.33 GB/s, 39.3 ms, and those to tier 2, idle, 18.2 GB/s, 18.0 ms (half: 36.0)."""
    busy = ("tor0>srv1",)
    for took_s, best in ((1.0, 6), (4.0, 6), (6.0, 2)):  # shares 1, 3 / 6 and 3 / 8: 48 ms
        network = view(busy)
        network.transferred(2, 1.0, took_s)
        assert new_policy("netkv_full").select(REQUEST, candidates(), network) == best
        assert new_policy("netkv_static").select(REQUEST, candidates(), network) == 2


def test_without_a_snapshot_nothing_is_corrected() -> None:
    network = view()
    network.transferred(1, 1.0, 9.0)
    assert network.achieved(candidates()).tolist() == [1.0] * 8
    network.adopt(NetworkSample(0.0, np.zeros(len(FABRIC.links))))
    assert network.achieved(candidates()).tolist() == [3 / 11] * 8  # (2 + 1) / (2 + 9)


def test_the_dispatcher_learns_from_transfers_predicted_from_a_snapshot_by_the_model_alone() -> None:
    """1,000 tokens to instance 2 at 25 GB/s: 13.1 ms; each takes 1 s. The second is predicted by 2.013 / 3."""
    made = Dispatcher(Scenario(policy="netkv_topo_only", serving={"transfer": "full"}), FABRIC, ROLES)

    def placed(number: int, now_s: float) -> float:
        decision = made.select(Request(number, now_s, 1000, 10, ()), 0, now_s)
        made.transferred(number, now_s + 1.0)
        made.admitted(number)
        made.finished(number)
        return decision.predicted_kv_transfer_ms

    alone_ms = 327.68e6 / 25e9 * 1e3
    assert placed(0, 0.0) == pytest.approx(alone_ms, rel=1e-3)  # without a snapshot: not learned from
    made.offer_sample(NetworkSample(1.0, np.zeros(len(FABRIC.links))), 1.0)
    assert placed(1, 2.0) == pytest.approx(alone_ms, rel=1e-3)
    assert placed(2, 4.0) == pytest.approx(alone_ms * 3 / (2 + alone_ms / 1e3), rel=1e-3)
    assert placed(3, 6.0) == pytest.approx(alone_ms * 4 / (2 + 2 * alone_ms / 1e3), rel=1e-3)  # not of 3's own
