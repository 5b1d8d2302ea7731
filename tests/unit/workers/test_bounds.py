"""What a worker reads is bounded: commands, numbers, blobs that nobody announced."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.support.workers_driver import Worker
from workers.command import ADDRESSES_MAX, Command, CommandError
from workers.control_channel import LONGEST_LINE_BYTES
from workers.inbound import Arrival, Receiver, UnwelcomeError
from workers.loop import Loop
from workers.wire import Header


def command(**fields: object) -> Command:
    return Command(json.dumps({"do": "test", **fields}).encode())


@pytest.mark.parametrize("value", [10**400, 1e300, -1, True, "1", float("nan"), float("inf"), None])
def test_seconds_that_no_timer_holds_are_refused(value: object) -> None:
    with pytest.raises(CommandError, match="a number of seconds, 0 to 1e"):
        command(wait_s=value).seconds("wait_s")


@pytest.mark.parametrize("value", [10**400, 1e300, 5e-324, 0, -1, True, "1", float("nan")])
def test_rates_that_no_socket_option_holds_are_refused(value: object) -> None:
    with pytest.raises(CommandError, match="null or a number of bits per second"):
        command(rate_bps=value).rate_bps("rate_bps")


@pytest.mark.parametrize("host", ["localhost", "", "10.0.0", "::1", "a\0b", "\ud800", "10.0.0.1 "])
def test_no_name_is_looked_up(host: str) -> None:
    with pytest.raises(CommandError, match="IPv4 address, port"):
        command(address=[host, 7001]).address("address")


@pytest.mark.parametrize("value", [[0], [2, 1], [1, 1], [6], [True], ["1"], [1.0], {"1": 1}, 3, None])
def test_marks_are_increasing_and_within_the_answer(value: object) -> None:
    with pytest.raises(CommandError, match="a list of increasing integers of 1 to 5"):
        command(marks=value).increasing("marks", 5)
    assert command(marks=[1, 5]).increasing("marks", 5) == [1, 5]
    assert command().increasing("marks", 5) == []


def test_a_list_of_addresses_is_bounded() -> None:
    with pytest.raises(CommandError, match="a list of at most"):
        command(addresses=[["10.0.0.1", 1]] * (ADDRESSES_MAX + 1)).addresses("addresses")


def test_a_command_nested_too_deep_and_one_without_an_end_are_told_and_work_goes_on(tmp_path: Path) -> None:
    with Worker(tmp_path, "decode", "h0") as worker:
        worker.control.sendall(b'{"do": ' + b"[" * 100_000 + b"\n")
        assert worker.wait_for("error")["error"] == "not a JSON line: nested too deep"
        worker.control.sendall(b"x" * (LONGEST_LINE_BYTES + 100_000))
        assert "left out" in worker.wait_for("error")["error"]
        worker.control.sendall(b"its end\n")
        worker.tell("cancel", request_id=7)
        assert worker.wait_for("cancelled")["known"] is False
        assert worker.quit() == 0


def test_blobs_that_nobody_announced_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr("workers.inbound.UNCLAIMED_MOST", 2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        receiver = Receiver(Loop(), listener, lambda *_: None, lambda *_: None)
        header = Header(9, 0, 1, 10, 10)
        receiver.arrivals |= {number: Arrival(header, 0.0) for number in range(2)}
        with pytest.raises(UnwelcomeError, match="2 blobs have arrived unannounced"):
            receiver.admit(None, header)  # type: ignore[arg-type]
