"""The path that the switches tell is the path that packets take: crafted 5-tuples, captured on every switch port."""

from __future__ import annotations

import json
from typing import Any

import pytest

from testbed.send_buffer import SendBufferLease
from tests.support.live.in_a_sandbox import in_sandbox

pytestmark = [pytest.mark.live, pytest.mark.untimed]


@pytest.fixture(scope="module", params=[0, 3])
def crafted(request: pytest.FixtureRequest, live_machine: None) -> list[dict[str, Any]]:
    """Sixty segments of five pairs of instances at tiers 1 to 3, under two seeds of the hash."""
    with SendBufferLease():
        done = in_sandbox("tests.support.live.crafted_probe", json.dumps({"ecmp_seed": request.param}))
    if not done.stdout.strip():
        pytest.fail(f"the probe ended early:\n{done.stderr[-2000:]}", pytrace=False)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_every_segment_was_captured_on_exactly_the_ports_of_the_path_that_was_told(
    crafted: list[dict[str, Any]],
) -> None:
    assert len(crafted) == 60
    assert [row for row in crafted if row["captured"] != row["predicted"]] == []


def test_source_ports_alone_spread_segments_over_all_equal_paths(crafted: list[dict[str, Any]]) -> None:
    taken = {(row["source"], row["target"]): set() for row in crafted}  # type: ignore[var-annotated]
    for row in crafted:
        taken[row["source"], row["target"]].add(row["path"])
    assert taken[0, 2] == {0}
    assert taken[0, 4] == taken[4, 0] == {0, 1}
    assert len(taken[0, 8]) >= 3
    assert len(taken[13, 2]) >= 3
