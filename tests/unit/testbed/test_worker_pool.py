"""What the pool of workers decides before any of them runs."""

from __future__ import annotations

import pytest

from scenario import ServingSpec
from testbed.worker_pool import connects_before_first_request
from topologies import Roles


@pytest.mark.parametrize(
    ("hosts", "fields", "ahead"),
    [
        (16, {}, True),
        (32, {}, True),
        (64, {}, False),
        (64, {"stripes": 1}, True),
        (16, {"connections": "per_transfer"}, False),
        (0, {}, False),
    ],
)
def test_connections_are_made_ahead_where_there_are_few_enough(
    hosts: int, fields: dict[str, object], ahead: bool
) -> None:
    roles = Roles(tuple(range(0, hosts, 2)), tuple(range(1, hosts, 2)))
    assert connects_before_first_request(roles, ServingSpec.model_validate(fields)) is ahead
