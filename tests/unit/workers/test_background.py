"""Background workers over loopback: flows start, are counted, and stop at once."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.workers_driver import PATIENCE_S, Event, Worker

pytestmark = pytest.mark.xdist_group("workers")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Worker, Worker]]:
    with Worker(tmp_path, "background", "b0") as source, Worker(tmp_path, "background", "b1") as sink:
        yield source, sink
        assert (source.quit(), sink.quit()) == (0, 0)


def report(worker: Worker) -> Event:
    worker.tell("report")
    return worker.wait_for("report")


def report_when(worker: Worker, field: str, at_least: int) -> Event:
    """The first report whose count has got so far."""
    deadline_s = time.monotonic() + PATIENCE_S
    while (latest := report(worker))[field] < at_least:
        assert time.monotonic() < deadline_s, latest
    return latest


def start(source: Worker, sink: Worker, flow_id: int, connections: int, rate_bps: float | None, protocol: str) -> None:
    flow = {"flow_id": flow_id, "connections": connections, "rate_bps": rate_bps, "protocol": protocol}
    source.tell("flow_start", address=sink.address, **flow)


def stop(source: Worker, flow_id: int) -> Event:
    source.tell("flow_stop", flow_id=flow_id)
    return source.wait_for("flow_stopped", flow_id=flow_id)


@pytest.mark.parametrize("rate_bps", [None, 80e6])
def test_a_tcp_flow_is_counted_at_both_ends(pair: tuple[Worker, Worker], rate_bps: float | None) -> None:
    source, sink = pair
    start(source, sink, 1, 8, rate_bps, "tcp")
    report_when(sink, "received_bytes", 1_000_000)
    stopped = stop(source, 1)
    assert len(set(stopped["source_ports"])) == len(stopped["retransmitted"]) == 8
    assert stopped["started_s"] < stopped["at_s"]
    assert report(source)["sent_bytes"] == stopped["bytes"] > 0
    # Whatever was acknowledged is in the sink's kernel; what was in flight at the stop may be there too.
    assert report(sink)["received_bytes"] >= stopped["bytes"]


def test_a_paced_flow_keeps_its_rate_from_the_first_segment_on(pair: tuple[Worker, Worker]) -> None:
    """Left to Linux, the first ten segments of each connection would be 2.6 MB at once: loopback's have 64 kB."""
    source, sink = pair
    began_s = time.monotonic()
    start(source, sink, 1, 4, 8e6, "tcp")
    report_when(sink, "received_bytes", 1)
    while time.monotonic() < began_s + 1.5:
        received = report(sink)["received_bytes"]
        past_s = time.monotonic() - began_s  # however long the answer took
        assert received <= 1e6 * (past_s + 0.1) + 5 * 65_536
        time.sleep(0.02)
    assert stop(source, 1)["bytes"] > 0.6e6


def test_a_stopped_greedy_flow_leaves_no_tail(pair: tuple[Worker, Worker]) -> None:
    source, sink = pair
    start(source, sink, 1, 4, None, "tcp")
    report_when(sink, "received_bytes", 1_000_000)
    stop(source, 1)
    settled = report(sink)["received_bytes"]
    start(source, sink, 2, 1, 1e6, "udp")  # as long as this takes, nothing of flow 1 may follow
    report_when(source, "sent_bytes", 1)
    grown = report_when(sink, "received_bytes", settled + 1400)["received_bytes"] - settled
    assert grown <= stop(source, 2)["bytes"]


def test_a_udp_flow_is_counted_at_both_ends(pair: tuple[Worker, Worker]) -> None:
    source, sink = pair
    start(source, sink, 1, 4, 5e6, "udp")
    report_when(sink, "received_bytes", 100_000)
    stopped = stop(source, 1)
    assert stopped["bytes"] % 1400 == 0
    assert report_when(sink, "received_bytes", stopped["bytes"])["received_bytes"] == stopped["bytes"]
    assert stopped["bytes"] <= 5e6 / 8 * (stopped["at_s"] - stopped["started_s"]) + 1400


def test_several_flows_of_one_worker_have_their_own_counts(pair: tuple[Worker, Worker]) -> None:
    source, sink = pair
    start(source, sink, 1, 2, 40e6, "tcp")
    start(sink, source, 1, 2, 40e6, "tcp")
    start(source, sink, 2, 2, 10e6, "udp")
    report_when(sink, "received_bytes", 200_000)
    report_when(source, "received_bytes", 200_000)
    assert stop(source, 1)["bytes"] + stop(source, 2)["bytes"] == report(source)["sent_bytes"]
    assert stop(sink, 1)["bytes"] == report(sink)["sent_bytes"]


def test_a_flow_to_nobody_fails_and_is_forgotten(pair: tuple[Worker, Worker]) -> None:
    source, _ = pair
    with closing(socket.create_server(("127.0.0.1", 0))) as unused:
        address = unused.getsockname()
    flow = {"connections": 8, "rate_bps": None, "protocol": "tcp"}
    source.tell("flow_start", flow_id=1, address=address, **flow)
    assert "refused" in source.wait_for("flow_failed", flow_id=1)["error"].lower()
    source.tell("flow_stop", flow_id=1)
    assert "no flow 1" in source.wait_for("error")["error"]


def test_a_sink_that_dies_is_a_failed_flow(tmp_path: Path) -> None:
    with Worker(tmp_path, "background", "b0") as source, Worker(tmp_path, "background", "b1") as sink:
        start(source, sink, 1, 2, None, "tcp")
        report_when(source, "sent_bytes", 1)
        sink.control.close()
        source.wait_for("flow_failed", flow_id=1)
        assert report(source)["sent_bytes"] > 0


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"rate_bps": None, "protocol": "udp"}, "needs a rate_bps"),
        ({"rate_bps": 0, "protocol": "tcp"}, "'rate_bps' must be"),
        ({"rate_bps": None, "protocol": "sctp"}, "tcp or udp"),
    ],
)
def test_a_senseless_flow_is_refused(pair: tuple[Worker, Worker], fields: dict[str, object], complaint: str) -> None:
    source, sink = pair
    source.tell("flow_start", flow_id=1, address=sink.address, connections=1, **fields)
    assert complaint in source.wait_for("error")["error"]


def test_a_flow_number_is_used_once_at_a_time(pair: tuple[Worker, Worker]) -> None:
    source, sink = pair
    start(source, sink, 1, 1, 1e6, "tcp")
    start(source, sink, 1, 1, 1e6, "tcp")
    assert "already running" in source.wait_for("error")["error"]
    stop(source, 1)
