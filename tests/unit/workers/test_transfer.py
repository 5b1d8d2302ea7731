"""Real prefill and decode workers over loopback: exact counts, admission, and everything that can go wrong."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.workers_driver import Event, Worker
from workers.outbound import Early
from workers.wire import ACK_BYTES, HEADER_BYTES, Ack, Header, StripeStatus, pack_header, unpack_ack

pytestmark = pytest.mark.xdist_group("workers")

STEP_S = 0.002
DECODE = ("--step-table", f"1:{STEP_S}", "--kv-memory-tokens", "1000", "--batch-slots", "2")
REQUEST = {"context_tokens": 10, "output_tokens": 3}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Worker, Worker]]:
    directory = tmp_path_factory.mktemp("control")
    with Worker(directory, "prefill", "h0") as prefill, Worker(directory, "decode", "h3", *DECODE) as decode:
        yield prefill, decode
        assert (prefill.quit(), decode.quit()) == (0, 0)


def send(prefill: Worker, decode: Worker, request_id: int, size: int, stripes: int, deadline_s: float = 60) -> None:
    fields: dict[str, Any] = {"bytes": size, "stripes": stripes, "deadline_s": deadline_s}
    prefill.tell("transfer", request_id=request_id, address=decode.address, **fields)


def connect(decode: Worker) -> socket.socket:
    return socket.create_connection(decode.address, timeout=60)


def read_ack(sock: socket.socket) -> Ack:
    return unpack_ack(sock.recv(ACK_BYTES, socket.MSG_WAITALL))


def assert_still_works(pair: tuple[Worker, Worker], request_id: int) -> None:
    prefill, decode = pair
    decode.tell("expect", request_id=request_id, bytes=1000, stripes=2, **REQUEST)
    send(prefill, decode, request_id, 1000, 2)
    assert prefill.wait_for(request_id=request_id)["event"] == "transferred"
    decode.wait_for("finished", request_id=request_id)


def test_hello_says_who_is_there(pair: tuple[Worker, Worker]) -> None:
    prefill, decode = pair
    assert {"event": "hello", "role": "prefill", "name": "h0", "port": None}.items() <= prefill.first.items()
    assert prefill.first["pid"] == prefill.process.pid
    assert decode.first["port"] > 0


@pytest.mark.parametrize("stripes", [1, 4, 8])
@pytest.mark.parametrize("size", [1, 7, 1_000_003, 20_000_000])
def test_every_byte_arrives_and_is_acknowledged(pair: tuple[Worker, Worker], stripes: int, size: int) -> None:
    prefill, decode = pair
    request_id = size * 10 + stripes
    decode.tell("expect", request_id=request_id, bytes=size, stripes=stripes, **REQUEST)
    send(prefill, decode, request_id, size, stripes)
    sent = prefill.wait_for("transferred", request_id=request_id)
    received = decode.wait_for("received", request_id=request_id)
    assert (sent["bytes"], sent["wire_bytes"]) == (size, size + stripes * HEADER_BYTES)
    assert len(set(sent["source_ports"])) == stripes
    assert len(sent["retransmitted"]) == stripes
    if size < 20_000_000:  # loopback loses nothing, but on a busy machine a tail probe may be sent for no loss
        assert sent["retransmitted"] == [0] * stripes
    assert 0 < sent["least_round_trip_s"] <= sent["at_s"] - sent["started_s"]
    assert received["bytes"] == size
    assert sent["started_s"] <= received["first_byte_s"] <= received["at_s"] <= sent["at_s"]
    assert_in_order(decode, request_id)


def assert_in_order(decode: Worker, request_id: int) -> Event:
    admitted = decode.wait_for("admitted", request_id=request_id)
    first = decode.wait_for("first_token", request_id=request_id)
    finished = decode.wait_for("finished", request_id=request_id)
    assert len(finished["token_s"]) == REQUEST["output_tokens"]
    assert admitted["at_s"] < first["at_s"] == finished["token_s"][0]
    assert finished["token_s"] == sorted(finished["token_s"])
    assert finished["at_s"] == finished["token_s"][-1]
    return finished


def test_a_fully_cached_request_is_admitted_at_once(pair: tuple[Worker, Worker]) -> None:
    prefill, decode = pair
    decode.tell("expect", request_id=1, bytes=0, stripes=4, **REQUEST)
    received = decode.wait_for("received", request_id=1)
    assert received["bytes"] == 0
    finished = assert_in_order(decode, 1)
    earliest_s = [received["at_s"] + STEP_S * (token + 1) for token in range(3)]
    assert all(at_s >= due_s - 2e-6 for at_s, due_s in zip(finished["token_s"], earliest_s, strict=True))
    send(prefill, decode, 1, 0, 4)
    assert prefill.wait_for(request_id=1)["event"] == "transferred"


def test_data_may_come_before_it_is_expected(pair: tuple[Worker, Worker]) -> None:
    prefill, decode = pair
    send(prefill, decode, 2, 5000, 4)
    prefill.wait_for("transferred", request_id=2)
    decode.wait_for("received", request_id=2)
    decode.tell("expect", request_id=2, bytes=5000, stripes=4, **REQUEST)
    assert_in_order(decode, 2)


def test_transfers_and_prefills_run_side_by_side(pair: tuple[Worker, Worker]) -> None:
    prefill, decode = pair
    ids = range(100, 110)
    for request_id in ids:
        decode.tell("expect", request_id=request_id, bytes=2_000_000 + request_id, stripes=4, **REQUEST)
        prefill.tell("prefill", request_id=request_id, prefill_s=0.01)
        send(prefill, decode, request_id, 2_000_000 + request_id, 4)
    done = [prefill.wait_for("prefilled", request_id=request_id) for request_id in ids]
    for earlier, later in pairwise(done):
        assert later["started_s"] >= earlier["started_s"] + 0.01 - 2e-6
    for request_id in ids:
        assert prefill.wait_for("prefill_started", request_id=request_id)["at_s"] == done[request_id - 100]["started_s"]
        assert prefill.wait_for("transferred", request_id=request_id)["bytes"] == 2_000_000 + request_id
        assert decode.wait_for("received", request_id=request_id)["bytes"] == 2_000_000 + request_id
        decode.wait_for("finished", request_id=request_id)


def test_queued_prefills_keep_the_schedule(pair: tuple[Worker, Worker]) -> None:
    prefill, _ = pair
    for request_id, prefill_s in enumerate([0.05, 0.01, 0.0, 0.02], start=200):
        prefill.tell("prefill", request_id=request_id, prefill_s=prefill_s)
    done = [prefill.wait_for("prefilled", request_id=request_id) for request_id in range(200, 204)]
    begin_s = done[0]["started_s"]
    assert [event["started_s"] - begin_s for event in done] == pytest.approx([0, 0.05, 0.06, 0.06], abs=3e-6)
    assert all(event["at_s"] >= event["started_s"] for event in done)


def test_prefills_at_once_run_beside_each_other(pair: tuple[Worker, Worker]) -> None:
    prefill, _ = pair
    for request_id, prefill_s in enumerate([0.05, 0.01], start=210):
        prefill.tell("prefill_at_once", request_id=request_id, prefill_s=prefill_s)
    short, long = (prefill.wait_for("prefilled", request_id=request_id) for request_id in (211, 210))
    assert short["started_s"] < long["started_s"] + 0.05
    assert short["at_s"] < long["at_s"]


@pytest.mark.parametrize("stripes", [1, 4])
def test_part_of_a_blob_leaves_while_its_prefill_runs(pair: tuple[Worker, Worker], stripes: int) -> None:
    prefill, decode = pair
    number, size = 220 + stripes, 3_000_001
    decode.tell("expect", request_id=number, bytes=size, stripes=stripes, **REQUEST)
    prefill.tell("prefill", request_id=number, prefill_s=0.4)
    begun_s = prefill.wait_for("prefill_started", request_id=number)["at_s"]
    fields = {"bytes": size, "stripes": stripes, "deadline_s": 60, "overlap": 0.5}
    prefill.tell("transfer", request_id=number, address=decode.address, **fields)
    received = decode.wait_for("received", request_id=number)
    assert received["bytes"] == size
    assert begun_s <= received["first_byte_s"] < begun_s + 0.4 <= received["at_s"]
    assert prefill.wait_for("transferred", request_id=number)["started_s"] == pytest.approx(begun_s, abs=0.3)
    decode.wait_for("finished", request_id=number)


def test_an_overlap_without_a_prefill_under_way_holds_nothing_back(pair: tuple[Worker, Worker]) -> None:
    prefill, decode = pair
    decode.tell("expect", request_id=230, bytes=5000, stripes=2, **REQUEST)
    fields = {"bytes": 5000, "stripes": 2, "deadline_s": 60, "overlap": 0.99}
    prefill.tell("transfer", request_id=230, address=decode.address, **fields)
    assert decode.wait_for("received", request_id=230)["bytes"] == 5000


def test_what_has_been_released_grows_evenly_and_is_all_in_the_end() -> None:
    early = Early(0.5, started_s=10.0, ends_s=12.0)
    assert [early.released(at_s) for at_s in (9.0, 10.0, 11.0, 11.999, 12.0, 20.0)] == pytest.approx(
        [0.0, 0.0, 0.25, 0.49975, 1.0, 1.0]
    )


def test_what_can_never_fit_is_rejected_and_its_data_refused(pair: tuple[Worker, Worker]) -> None:
    prefill, decode = pair
    decode.tell("expect", request_id=3, bytes=1000, stripes=1, context_tokens=999, output_tokens=2)
    assert "exceed" in decode.wait_for("rejected", request_id=3)["error"]
    send(prefill, decode, 3, 1000, 1)
    assert "refused" in prefill.wait_for("transfer_failed", request_id=3)["error"]
    assert_still_works(pair, 4)


def test_a_cancelled_request_is_dropped(pair: tuple[Worker, Worker]) -> None:
    prefill, decode = pair
    decode.tell("expect", request_id=5, bytes=0, stripes=1, context_tokens=10, output_tokens=900)
    decode.wait_for("first_token", request_id=5)
    decode.tell("cancel", request_id=5)
    assert decode.wait_for("cancelled", request_id=5)["known"] is True
    decode.tell("expect", request_id=6, bytes=1000, stripes=1, **REQUEST)
    decode.tell("cancel", request_id=6)
    decode.wait_for("cancelled", request_id=6)
    send(prefill, decode, 6, 1000, 1)
    assert "refused" in prefill.wait_for("transfer_failed", request_id=6)["error"]
    assert_still_works(pair, 6)
    assert not any(event["request_id"] == 5 for event in decode.events if event["event"] == "finished")


BAD_HEADERS = [
    (b"GET / HTTP/1.1\r\nHost: example\r\nAccept: */*\r\n", "magic"),
    (bytes(HEADER_BYTES), "magic"),
    (pack_header(Header(9, 0, 1, 100, 100))[:-1] + b"\0", "checksum"),
    (pack_header(Header(9, 3, 2, 100, 100)), "does not exist"),
]


@pytest.mark.parametrize(("data", "complaint"), BAD_HEADERS)
def test_a_bad_header_is_answered_and_reported(pair: tuple[Worker, Worker], data: bytes, complaint: str) -> None:
    _, decode = pair
    with connect(decode) as sock:
        sock.sendall(data)
        assert read_ack(sock).status is StripeStatus.BAD_HEADER
        assert complaint in decode.wait_for("wire_error", request_id=None)["error"]
        assert sock.recv(1) == b""
    assert_still_works(pair, 10)


def test_a_header_cut_short_is_reported(pair: tuple[Worker, Worker]) -> None:
    _, decode = pair
    with connect(decode) as sock:
        sock.sendall(pack_header(Header(9, 0, 1, 100, 100))[:10])
    assert "header ended after 10 bytes" in decode.wait_for("wire_error")["error"]


def test_a_lost_stripe_drops_the_blob_which_may_come_again(pair: tuple[Worker, Worker]) -> None:
    prefill, decode = pair
    decode.tell("expect", request_id=11, bytes=200, stripes=2, **REQUEST)
    with connect(decode) as first, connect(decode) as second:
        first.sendall(pack_header(Header(11, 0, 2, 100, 200)) + bytes(100))
        assert read_ack(first) == Ack(11, 100, StripeStatus.OK)
        second.sendall(pack_header(Header(11, 1, 2, 100, 200)) + bytes(60))
    assert "40 bytes early" in decode.wait_for("wire_error", request_id=11)["error"]
    send(prefill, decode, 11, 200, 2)
    assert decode.wait_for("received", request_id=11)["bytes"] == 200
    assert prefill.wait_for("transferred", request_id=11)["bytes"] == 200
    decode.wait_for("finished", request_id=11)


def test_a_stripe_that_comes_twice_is_refused(pair: tuple[Worker, Worker]) -> None:
    _, decode = pair
    stripe = pack_header(Header(12, 0, 2, 100, 200)) + bytes(100)
    with connect(decode) as first, connect(decode) as second:
        first.sendall(stripe)
        assert read_ack(first).status is StripeStatus.OK
        second.sendall(stripe)
        assert read_ack(second).status is StripeStatus.UNEXPECTED
    assert "twice" in decode.wait_for("wire_error", request_id=12)["error"]
    decode.tell("cancel", request_id=12)
    decode.wait_for("cancelled", request_id=12)


def test_bytes_beyond_the_count_are_reported(pair: tuple[Worker, Worker]) -> None:
    _, decode = pair
    with connect(decode) as sock:
        sock.sendall(pack_header(Header(13, 0, 1, 100, 100)) + bytes(101))
        assert read_ack(sock) == Ack(13, 100, StripeStatus.OK)
        assert "beyond" in decode.wait_for("wire_error", request_id=13)["error"]
    decode.tell("cancel", request_id=13)
    decode.wait_for("cancelled", request_id=13)


def test_a_blob_of_another_size_than_announced_is_refused(pair: tuple[Worker, Worker]) -> None:
    prefill, decode = pair
    decode.tell("expect", request_id=14, bytes=1000, stripes=4, **REQUEST)
    send(prefill, decode, 14, 1001, 4)
    assert "refused" in prefill.wait_for("transfer_failed", request_id=14)["error"]
    assert "1000 bytes in 4 were expected" in decode.wait_for("wire_error", request_id=14)["error"]
    assert_still_works(pair, 15)


def test_nobody_listening_is_a_failed_transfer(pair: tuple[Worker, Worker]) -> None:
    prefill, _ = pair
    with closing(socket.create_server(("127.0.0.1", 0))) as unused:
        address = unused.getsockname()
    prefill.tell("transfer", request_id=16, address=address, bytes=1000, stripes=4, deadline_s=5)
    assert "refused" in prefill.wait_for("transfer_failed", request_id=16)["error"].lower()


def test_a_silent_receiver_meets_the_deadline(pair: tuple[Worker, Worker]) -> None:
    prefill, _ = pair
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        address = silent.getsockname()
        prefill.tell("transfer", request_id=17, address=address, bytes=1000, stripes=4, deadline_s=0.05)
        assert "deadline of 0.05 s" in prefill.wait_for("transfer_failed", request_id=17)["error"]
    assert_still_works(pair, 18)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"nonsense", "not a JSON line"),
        (b"[]", "a command is"),
        (b'{"do":"dance"}', "knows only"),
        (b'{"do":"prefill","request_id":-1,"prefill_s":1}', "'request_id' must be"),
        (b'{"do":"prefill","request_id":1,"prefill_s":NaN}', "'prefill_s' must be"),
        (b'{"do":"transfer","request_id":1,"address":["10.0.0.1",0],"bytes":1}', "'address' must be"),
    ],
)
def test_a_bad_command_is_answered_in_one_line(pair: tuple[Worker, Worker], line: bytes, complaint: str) -> None:
    prefill, _ = pair
    prefill.control.sendall(line + b"\n")
    assert complaint in prefill.wait_for("error")["error"]


@pytest.mark.parametrize("role", ["prefill", "decode", "background"])
def test_a_worker_does_not_outlive_its_driver(tmp_path: Path, role: str) -> None:
    with Worker(tmp_path, role, "orphan") as worker:
        worker.control.close()
        assert worker.process.wait(1.0) == 1


def test_a_stopped_worker_leaves_when_it_wakes_to_no_driver(tmp_path: Path) -> None:
    with Worker(tmp_path, "decode", "h3") as worker:
        os.kill(worker.process.pid, signal.SIGSTOP)
        worker.control.close()
        os.kill(worker.process.pid, signal.SIGCONT)
        assert worker.process.wait(1.0) == 1


@pytest.mark.parametrize("role", ["decode", "background"])
def test_a_taken_port_is_one_clear_line(tmp_path: Path, role: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with Worker(tmp_path, role, "h3", "--address", "127.0.0.1", "--port", str(port)) as worker:
            assert worker.first["event"] == "fatal"
            assert f"cannot listen on 127.0.0.1:{port}" in worker.first["error"]
            assert worker.process.wait(60.0) == 2


def test_a_senseless_step_table_is_one_clear_line(tmp_path: Path) -> None:
    with Worker(tmp_path, "decode", "h3", "--step-table", "1:0.1,1:0.2") as worker:
        assert "step table" in worker.first["error"]
        assert worker.process.wait(60.0) == 2


def test_a_missing_driver_is_exit_code_2(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from workers.control_channel import ControlChannel

    with pytest.raises(SystemExit, match="2"):
        ControlChannel("decode", "h3", str(tmp_path / "nobody"))
    assert "no driver at" in capfd.readouterr().err


@pytest.mark.parametrize("role", ["prefill", "background"])
def test_congestion_control_is_chosen_per_worker(tmp_path: Path, role: str) -> None:
    with Worker(tmp_path, role, "h0", "--congestion-control", "reno") as worker:
        assert worker.first["congestion_control"] == "reno"
    with Worker(tmp_path, role, "h0", "--congestion-control", "carrier-pigeon") as worker:
        assert "cannot open streams" in worker.first["error"]
        assert worker.process.wait(60.0) == 2


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_an_impossible_priority_is_one_clear_line(tmp_path: Path, role: str) -> None:
    with Worker(tmp_path, role, "h0", "--realtime-priority", "100") as worker:
        assert "real-time priority 100" in worker.first["error"]
        assert worker.process.wait(60.0) == 2
