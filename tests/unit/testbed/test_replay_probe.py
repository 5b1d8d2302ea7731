"""The probe that replays a run in the fluid model: exact for a fluid, and as far off as the run was."""

from __future__ import annotations

from typing import Any

import pytest

from scenario import Scenario
from serving import Outcome, RequestRecord
from testbed.calibration import TCP_PAYLOAD_SHARE
from testbed.replay_probe import LEAST_TRANSFERS, transfer_time_error

SCENARIO = Scenario()
SIZE_B = 2_500_000_000


def outcome(factor: float, transfers: int = LEAST_TRANSFERS, **evidence: Any) -> Outcome:
    """Transfers one after another between two servers of a rack, each `factor` times as long as alone on its path."""
    fabric, roles = SCENARIO.build()
    source = roles.prefill[0]
    target = next(instance for instance in roles.decode if fabric.tier(source, instance) == 1)
    rate_bps = min(fabric.links[link].capacity_bps for link in fabric.paths(source, target)[0])
    alone_s = 8 * SIZE_B / TCP_PAYLOAD_SHARE / rate_bps
    made = Outcome(evidence=evidence)
    for number in range(transfers):
        start_s = 10.0 * number
        record = RequestRecord(number, start_s, 1000, 10, "round_robin", kv_bytes=SIZE_B)
        record.kv_transfer_ms = factor * alone_s * 1e3
        made.requests.append(record)
        ends = {"source": source, "target": target}
        made.decisions.append(
            {"request_id": number, "prefill_id": source, "decode_id": target, "transfer_started_s": start_s,
             "source_ports": [5000]}
        )  # fmt: skip
        made.paths.append(
            {"owner": "transfer", "number": number, "started_s": start_s, "ended_s": start_s + factor * alone_s,
             "rate_bps": None, "path": 0, **ends}
        )  # fmt: skip
    return made


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.38])
def test_the_error_is_how_much_longer_the_transfers_took(factor: float) -> None:
    assert transfer_time_error(SCENARIO, outcome(factor)) == pytest.approx(factor - 1, abs=1e-3)


def test_background_that_shares_the_link_is_given_to_the_model() -> None:
    halved = outcome(2.0)
    first = halved.paths[0]
    last_s = halved.paths[-1]["ended_s"]
    halved.paths.append({**first, "owner": "background", "number": 0, "started_s": -1.0, "ended_s": last_s + 1})
    assert transfer_time_error(SCENARIO, halved) == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize(
    "made",
    [outcome(1.5, LEAST_TRANSFERS - 1), outcome(1.5, background_udp=True), Outcome()],
    ids=["few", "udp", "none"],
)
def test_where_it_cannot_be_known_it_is_not_guessed(made: Outcome) -> None:
    assert transfer_time_error(SCENARIO, made) is None
