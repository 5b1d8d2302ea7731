"""What the pool of workers decides before any of them runs."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from scenario import ServingSpec
from testbed.errors import TestbedError
from testbed.worker_pool import connects_before_first_request, control_socket, read_event
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


def test_the_control_socket_is_its_owners_alone(tmp_path: Path) -> None:
    with control_socket(tmp_path / "control.sock"):
        assert stat.S_IMODE((tmp_path / "control.sock").stat().st_mode) == 0o600


@pytest.mark.parametrize("line", [b"", b"no JSON", b"[1]", b'{"event": 1}', b"[" * 100_000, b"\xff", b"9" * 5000])
def test_what_is_no_event_is_refused_in_one_line(line: bytes) -> None:
    with pytest.raises(TestbedError, match=r"^not an event: .*expected$"):
        read_event(line)
    assert read_event(b'{"event": "hello", "pid": 1}')["pid"] == 1
