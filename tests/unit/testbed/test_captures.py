"""Captures: which port, what the reader makes of crafted segments, how it joins a run's connections, and bad input."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap
from typer.testing import CliRunner

from experiments.cli import app
from experiments.comparing.capture_report import read_captures
from experiments.running.errors import SpecError, StoreError
from experiments.running.run_spec import make_spec
from experiments.running.store import write_run
from experiments.verbs.run import check_links
from serving import Outcome
from testbed.capture import file_name, port_of
from testbed.capture_reader import Endpoints, read_capture
from testbed.errors import TestbedError
from topologies import FabricSpec, build_fattree, instance_ip
from workers.wire import Header, pack_header

FABRIC = build_fattree(FabricSpec())
HERE, THERE = (instance_ip(FABRIC.instances[instance]) for instance in (0, 8))
PORTS = frozenset({7001})
ISN = 2**32 - 1500
"""So that sequence numbers wrap within the second segment."""


def ours(at_s: float, offset: int, payload: int = 1000, flags: str = "A", port: int = 40_000, isn: int = ISN) -> Packet:
    """A segment of the sender; `offset` counts from its first sequence number."""
    segment = TCP(sport=port, dport=7001, seq=(isn + offset) % 2**32, flags=flags)
    return stamped(at_s, Ether() / IP(src=HERE, dst=THERE) / segment / Raw(b"\0" * payload))


def theirs(at_s: float, up_to: int, port: int = 40_000) -> Packet:
    """An acknowledgement; `up_to` counts as `offset` does."""
    segment = TCP(sport=7001, dport=port, seq=9, ack=(ISN + up_to) % 2**32, flags="A")
    return stamped(at_s, Ether() / IP(src=THERE, dst=HERE) / segment)


def stamped(at_s: float, packet: Packet) -> Packet:
    packet.time = 1_000_000 + at_s
    return packet


def written(place: Path, *packets: Packet) -> Path:
    wrpcap(str(place), list(packets))
    return place


def test_round_trips_are_from_a_segment_to_the_ack_that_covers_it(tmp_path: Path) -> None:
    file = written(
        tmp_path / "a.pcap",
        *(ours(0.000, 0, 0, "S"), theirs(0.010, 1), ours(0.011, 1), ours(0.012, 1001), ours(0.013, 2001)),
        *(theirs(0.031, 1001), theirs(0.053, 3001)),  # the second one covers two segments: the later gives the trip
    )
    (found,) = read_capture(file, PORTS)
    assert found.endpoints == Endpoints(HERE, 40_000, THERE, 7001)
    assert [round(trip_s, 6) for trip_s in found.round_trip_s] == [0.010, 0.020, 0.040]
    assert (found.frames, found.retransmitted) == (4, 0)
    assert found.frame_bytes == 4 * 54 + 3000


def test_a_segment_behind_later_ones_was_retransmitted_whether_the_port_saw_it_before_or_not(tmp_path: Path) -> None:
    seen_before = (ours(0.0, 0, 0, "S"), ours(0.1, 1), ours(0.2, 1001), ours(0.3, 1))
    lost_before = (ours(0.0, 0, 0, "S"), ours(0.2, 1001), ours(0.3, 1))
    for packets in (seen_before, lost_before):
        (found,) = read_capture(written(tmp_path / "b.pcap", *packets), PORTS)
        assert found.retransmitted == 1


def test_what_was_in_flight_during_a_retransmission_gives_no_round_trip(tmp_path: Path) -> None:
    packets = (ours(0.0, 1), ours(0.1, 1001), ours(0.2, 1), ours(0.3, 2001), theirs(0.5, 2001), theirs(0.55, 3001))
    (found,) = read_capture(written(tmp_path / "c.pcap", *packets), PORTS)
    assert [round(trip_s, 6) for trip_s in found.round_trip_s] == [0.25]


def test_a_retransmitted_syn_is_one_and_other_first_numbers_are_another_connection(tmp_path: Path) -> None:
    packets = (ours(0.0, 0, 0, "S"), ours(1.0, 0, 0, "S"), ours(1.1, 1), ours(5.0, 0, 0, "S", isn=77))
    first, second = read_capture(written(tmp_path / "d.pcap", *packets), PORTS)
    assert (first.frames, first.retransmitted) == (3, 1)
    assert (second.frames, second.retransmitted) == (1, 0)


def announcing(at_s: float, offset: int, request_id: int) -> Packet:
    """The first segment of a transfer of 2000 bytes in one stripe on a persistent connection."""
    packet = ours(at_s, offset, 0)
    header = pack_header(Header(request_id, 0, 1, 2000, 2000, persistent=True))
    packet[TCP].payload = Raw(header + b"\0" * (1000 - len(header)))
    return stamped(at_s, packet)


def test_every_transfer_on_a_kept_connection_is_told_apart(tmp_path: Path) -> None:
    first = (announcing(0.1, 1, 7), ours(0.2, 1001), ours(0.3, 1001), theirs(0.4, 2001))
    second = (announcing(1.1, 2001, 9), ours(1.2, 3001), announcing(1.3, 2001, 9), ours(1.4, 4001))
    file = written(tmp_path / "persistent.pcap", ours(0.0, 0, 0, "S"), *first, *second)
    found = read_capture(file, PORTS)
    assert [(one.request_id, one.frames, one.retransmitted) for one in found] == [(7, 4, 1), (9, 4, 1)]


def test_a_header_that_comes_after_later_segments_was_retransmitted(tmp_path: Path) -> None:
    lost_before = (ours(1.2, 3001), announcing(1.3, 2001, 9), ours(1.4, 4001))
    file = written(tmp_path / "late.pcap", announcing(0.1, 1, 7), ours(0.2, 1001), *lost_before)
    found = read_capture(file, PORTS)
    assert [(one.request_id, one.retransmitted) for one in found] == [(7, 0), (9, 1)]


def test_other_ports_and_other_protocols_are_nobodys(tmp_path: Path) -> None:
    arp = stamped(0.0, Ether() / ARP(psrc=HERE, pdst=THERE))
    assert read_capture(written(tmp_path / "e.pcap", arp, ours(0.1, 1)), frozenset({7002})) == []


@pytest.mark.parametrize("content", [b"", b"not a capture at all, but long enough to hold a header"])
def test_a_file_that_is_no_capture_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f.pcap").write_bytes(content)
    with pytest.raises(TestbedError, match=r"f\.pcap: not a capture"):
        read_capture(tmp_path / "f.pcap", PORTS)


def test_a_link_is_captured_at_the_switch_that_begins_it_or_that_its_host_hangs_on() -> None:
    link = FABRIC.link_by_name
    assert port_of(FABRIC, link["tor0>agg1"]).startswith("tor0-eth")
    assert port_of(FABRIC, link["h0>srv0"]) == port_of(FABRIC, link["srv0>h0"])
    assert file_name("tor0>agg1") == "tor0-agg1.pcap"


def path_row(number: int, connection: int, port: int, started_s: float, sent_again: int) -> dict[str, object]:
    return {
        **{"owner": "transfer", "number": number, "connection": connection, "started_s": started_s, "ended_s": 9.0},
        **{"bytes": 1.0, "rate_bps": None, "source": 0, "target": 8, "tier": 3, "source_port": port},
        **{"equal_paths": 4, "path": 0, "links": [], "retransmitted": sent_again},
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two transfers of one stripe from the same port, one after the other, and a calibration transfer."""
    captured = tmp_path / "captured"
    captured.mkdir()
    written(
        captured / "h0-srv0.pcap",
        *(ours(0.0, 0, 0, "S"), ours(0.1, 1), theirs(0.104, 1001), ours(0.2, 1)),
        *(ours(1.0, 0, 0, "S", isn=5), ours(2.0, 0, 0, "S", port=41_000)),
    )
    evidence = {"captures": [{"link": "h0>srv0", "file": "h0-srv0.pcap", "frames": 6, "dropped": 0}]}
    paths = [path_row(8, 0, 40_000, 5.0, 0), path_row(7, 0, 40_000, 4.0, 1)]
    spec = make_spec({}, {})
    outcome = Outcome(paths=paths, evidence=evidence)
    write_run(tmp_path / "run", spec, outcome, {"verdict": "valid", "reasons": []}, captured)
    return tmp_path / "run"


def test_connections_of_a_run_are_joined_by_address_and_port_in_order_of_time(run: Path) -> None:
    rows = read_captures(run)
    assert rows[["number", "frames", "retransmitted", "retransmitted_by_sender"]].to_numpy().tolist() == [
        [7, 3, 1, 1],
        [8, 1, 0, 0],
    ]
    assert rows["rtt_ms"][0] == pytest.approx(4.0)
    assert math.isnan(rows["rtt_ms"][1])


def test_paths_prints_what_was_captured_only_when_asked(run: Path) -> None:
    asked, not_asked = (CliRunner().invoke(app, ["paths", str(run), *more]) for more in (["--pcap"], []))
    assert asked.exit_code == not_asked.exit_code == 0, asked.output
    assert "captured at h0>srv0" in asked.output
    assert "captured" not in not_asked.output


def test_a_run_without_captures_says_how_to_make_them(run: Path) -> None:
    (run / "pcap" / "h0-srv0.pcap").unlink()
    (run / "pcap").rmdir()
    with pytest.raises(StoreError, match=r"holds no captures; `netkv run --pcap LINK` makes them"):
        read_captures(run)


@pytest.mark.parametrize(
    ("links", "world", "words"),
    [
        (["tor0>agg9"], "emulated", "tor0>agg9: no such link; they are h0>srv0 and so on"),
        (["tor0>agg0", "tor0>agg0"], "emulated", "named twice"),
        (["tor0>agg0"], "analytic", "the analytic world has no packets"),
    ],
)
def test_links_that_cannot_be_captured_are_refused_before_anything_runs(
    links: list[str], world: str, words: str
) -> None:
    with pytest.raises(SpecError, match=words):
        check_links(make_spec({"world": world}, {}), links)
