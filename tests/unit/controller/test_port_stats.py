"""Port statistics on the wire: held against both drivers' own encoders, and taken off streams cut anywhere."""

from __future__ import annotations

import struct
from importlib import import_module
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.counters import PortCounters
from controller.driver import DRIVERS, prepare
from controller.polls import PollStatistics
from controller.port_stats import Reply, request, split_stream

PORTS = [PortCounters(1, 7, 2**63, 1.5), PortCounters(0xFFFFFFFE, 0, 1, 86_400.000_000_25)]


def reply(transaction: int, ports: list[PortCounters], flags: int = 0, kind: int = 4) -> bytes:
    """A reply as the OpenFlow Switch Specification 1.3.5 draws it (7.3.5.6)."""
    body = b"".join(
        struct.pack("!I4x12QII", port, 11, 12, rx, tx, *range(8), int(alive_s), round(alive_s % 1 * 1e9))
        for port, rx, tx, alive_s in ports
    )
    return struct.pack("!BBHIHH4x", 4, 19, 16 + len(body), transaction, kind, flags) + body


ECHO = struct.pack("!BBHI", 4, 2, 12, 9) + b"ping"
DESCRIPTIONS = reply(5, [], kind=13)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_request_is_what_the_driver_would_send(driver: str) -> None:
    prepare(driver)
    datapath = import_module(f"{driver}.ofproto.ofproto_protocol").ProtocolDesc(4)
    message = datapath.ofproto_parser.OFPPortStatsRequest(datapath, 0, datapath.ofproto.OFPP_ANY)
    message.set_xid(0xFFFFFFFF)
    message.serialize()
    assert request(0xFFFFFFFF) == bytes(message.buf)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_reply_reads_as_the_driver_reads_it(driver: str) -> None:
    prepare(driver)
    datapath = import_module(f"{driver}.ofproto.ofproto_protocol").ProtocolDesc(4)
    wire = reply(3, PORTS, flags=1)
    theirs: Any = import_module(f"{driver}.ofproto.ofproto_parser").msg(datapath, 4, 19, len(wire), 3, wire)
    ours = Reply(wire)
    assert list(ours.ports()) == [
        (entry.port_no, entry.rx_bytes, entry.tx_bytes, entry.duration_sec + entry.duration_nsec * 1e-9)
        for entry in theirs.body
    ]
    assert list(ours.ports()) == PORTS
    assert (ours.transaction, ours.more) == (3, True)


@given(
    st.lists(st.sampled_from([ECHO, DESCRIPTIONS, reply(1, PORTS), reply(2, []), reply(3, PORTS[:1])]), max_size=8),
    st.lists(st.integers(0, 2000), max_size=8),
)
def test_a_stream_cut_anywhere_gives_each_side_its_own(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(messages)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    rest, passed, taken = b"", b"", []
    for begin, end in pairwise(edges):
        found, others, rest = split_stream(rest + stream[begin:end])
        passed += others
        taken += [Reply(message).transaction for message in found]
    assert rest == b""
    assert passed == b"".join(message for message in messages if message in (ECHO, DESCRIPTIONS))
    assert taken == [Reply(message).transaction for message in messages if message not in (ECHO, DESCRIPTIONS)]


def test_what_is_no_message_is_left_to_the_framework() -> None:
    half_a_port = struct.pack("!BBHIHH4x", 4, 19, 20, 1, 4, 0) + b"half"
    absurd = struct.pack("!BBHI", 4, 19, 3, 1) + b"xyz"
    assert split_stream(half_a_port + ECHO + absurd) == ([], half_a_port + ECHO + absurd, b"")


def test_poll_statistics_count_what_a_switch_missed_after_its_first_answer() -> None:
    statistics = PollStatistics([1, 2])
    statistics.missed(1)
    for round_trip_s in (0.004, 0.001, 0.002):
        statistics.answered(1, round_trip_s)
    statistics.missed(1)
    statistics.missed(2)
    statistics.answered(99, 0.003)  # a switch that the fabric does not have
    assert (statistics.total_answered, statistics.total_missed) == (3, 1)
    assert statistics.switches[1].round_trip_s == 0.002
    assert statistics.round_trip_ms() == {"p50": 3.0, "p99": 4.0}


def test_polls_that_waited_for_other_switches_to_be_added_are_forgotten() -> None:
    statistics = PollStatistics([1])
    statistics.answered(1, 0.2)
    statistics.restart()
    assert statistics.round_trip_ms() is None
    statistics.answered(1, 0.001)
    assert (statistics.total_answered, statistics.round_trip_ms()) == (1, {"p50": 1.0, "p99": 1.0})
