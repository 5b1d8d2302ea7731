"""Prefix caches filled before t = 0: the emulated world begins with what the analytic world begins with."""

from __future__ import annotations

import pytest

from scenario import Scenario
from simulator import AnalyticWorld
from testbed.emulated_world import EmulatedWorld
from testbed.emulation import EmulationSpec

pytestmark = [pytest.mark.live, pytest.mark.untimed]

WARM = Scenario.model_validate(
    {
        "policy": "cla",
        "congestion": {"kind": "none"},
        "workload": {
            "profile": "chatbot", "first_request": 400, "warm_requests": 400, "requests": 12, "rate_rps": 3.5,
            "max_output_tokens": 2,
        },
    }
)  # fmt: skip


def test_both_worlds_begin_with_the_same_caches_and_move_only_what_is_not_there() -> None:
    with EmulatedWorld(WARM, EmulationSpec(datapath="user")) as emulated, AnalyticWorld(WARM) as analytic:
        one, other = emulated.run(WARM), analytic.run(WARM)
    assert one.evidence["warm_caches"] == other.evidence["warm_caches"]
    assert one.evidence["warm_caches"]["requests"] == 400
    first, same = one.requests[0], other.requests[0]
    assert (first.decode_id, first.cached_tokens, first.kv_bytes) == (
        same.decode_id, same.cached_tokens, same.kv_bytes
    )  # fmt: skip
    kappa = WARM.model.kv_bytes_per_token
    for record in one.requests:
        assert record.status == "completed"
        assert record.kv_bytes == (record.input_length - record.cached_tokens) * kappa
    assert sum(record.cached_tokens for record in one.requests) > 0
