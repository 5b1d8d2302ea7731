"""The mean utilisation between two documents of the oracle."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.telemetry_watch import mean_utilisation


def document(sampled_s: float | None, *carried_bytes: int) -> dict[str, Any]:
    links = {f"a{k}>b": {"bytes": size, "capacity_bps": 200e9} for k, size in enumerate(carried_bytes)}
    return {"sampled_monotonic_s": sampled_s, "rate_scale": 2500.0, "links": links}


def test_a_link_of_80_mbit_s_that_carries_five_megabytes_a_second_is_half_full() -> None:
    found = mean_utilisation(document(100.0, 1_000, 7), document(102.0, 10_001_000, 7))
    assert found.tolist() == pytest.approx([0.5, 0.0])


@pytest.mark.parametrize(("begin_s", "end_s"), [(None, 1.0), (1.0, 1.0)])
def test_without_time_in_between_there_is_nothing_to_tell(begin_s: float | None, end_s: float) -> None:
    assert mean_utilisation(document(begin_s, 0), document(end_s, 9)).tolist() == [0.0]
