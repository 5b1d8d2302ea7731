"""The reader of traces: the files it takes, the lines it takes, and how it names what it refuses."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import Request, Trace, WorkloadError, count_requests, read_trace
from workloads.disk_sort import sorted_on_disk
from workloads.trace_formats import Record

GOOD = {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}


def line(**changes: Any) -> str:
    """One line of a trace: the good record with changes; `None` takes a field out."""
    return json.dumps({name: value for name, value in {**GOOD, **changes}.items() if value is not None})


def write(path: Path, *lines: str) -> Path:
    data = "".join(f"{text}\n" for text in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


# The reader


@pytest.mark.parametrize("name", ["trace.jsonl", "trace.jsonl.gz"])
def test_a_trace_is_read_plain_or_gzipped(tmp_path: Path, name: str) -> None:
    place = write(tmp_path / name, line(), "", line(timestamp=3000.5, input_length=10, hash_ids=[7]))
    assert read_trace(place) == [
        Request(0, 0.0, 600, 5, (0, 1)),
        Request(1, 3.0005, 10, 5, (7,)),
    ]


def test_gzip_is_known_by_its_content_not_its_name(tmp_path: Path) -> None:
    place = tmp_path / "trace.jsonl"
    place.write_bytes(gzip.compress(line().encode()))
    assert len(read_trace(place)) == 1


def test_unknown_fields_are_another_traces_business(tmp_path: Path) -> None:
    assert len(read_trace(write(tmp_path / "t.jsonl", line(type="chat")))) == 1


def test_a_slice_of_a_trace(tmp_path: Path) -> None:
    place = write(tmp_path / "t.jsonl", *(line(timestamp=1000 * k) for k in range(5)))
    assert [request.timestamp_s for request in read_trace(place, first=1, limit=2)] == [1.0, 2.0]
    with pytest.raises(WorkloadError, match="holds 5 requests, so there is none from number 5 on"):
        read_trace(place, first=5)


def test_lines_beyond_the_last_one_needed_are_not_read(tmp_path: Path) -> None:
    place = write(tmp_path / "t.jsonl", line(), line(), "not JSON")
    assert len(read_trace(place, limit=2)) == 2


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ("{", "not JSON: "),
        ("hello", "not JSON: "),
        ("1, 2, 3", "not JSON: "),
        (
            json.dumps({"session_id": 1, "delay": 5, "input_length": 9, "output_length": 1}),
            "timestamp: missing: the first turn of session '1' needs one",
        ),
        ("[" * 100_000, "not JSON: nested too deep"),
        ('{"timestamp": ' + "9" * 5000 + "}", "not JSON that can be read: a number of thousands of digits"),
        ("[1, 2]", "a JSON object was expected, not list"),
        ("null", "a JSON object was expected, not NoneType"),
        (line(timestamp=None), "timestamp: missing"),
        (line(input_length=None), "input_length: missing"),
        (line(output_length=None), "output_length: missing"),
        (line(timestamp="0"), "timestamp: '0' is not a number"),
        (line(timestamp=True), "timestamp: True is not a number"),
        (line(timestamp=-1), "timestamp: -1 is outside 0 ... 1e+19: add the same to every stamp"),
        (line(timestamp=float("nan")), "timestamp: nan is outside 0"),
        (line(timestamp=float("inf")), "timestamp: inf is outside 0"),
        (line(timestamp=10**400), "timestamp: 1000"),
        (line(input_length=0), "input_length: 0 is outside 1"),
        (line(input_length=-5), "input_length: -5 is outside 1"),
        (line(input_length=1.5), "input_length: 1.5 is not a whole number"),
        (line(input_length=True), "input_length: True is not a whole number"),
        (line(input_length=float("nan")), "input_length: nan is not a whole number"),
        (line(input_length=10**9), "input_length: 1000000000 is outside 1"),
        (line(input_length=10**400), "input_length: 1000"),
        (line(output_length=0), "output_length: 0 is outside 1"),
        (line(output_length="x" * 9999), "output_length: 'xxx"),
        (line(hash_ids=[0, 1, 2]), "hash_ids: 3 ids for 600 tokens, which have 2 at 512 tokens a block"),
        (line(hash_ids="01"), "hash_ids: a list of whole numbers, or of texts"),
        (line(hash_ids=[0, 1.5]), "hash_ids: a list of whole numbers, or of texts"),
        (line(hash_ids=[True]), "hash_ids: a list of whole numbers, or of texts"),
        (line(hash_ids=[1, "a3f5"]), "hash_ids: a list of whole numbers, or of texts"),
    ],
)
def test_a_bad_line_is_named_by_file_line_and_field(tmp_path: Path, bad: str, complaint: str) -> None:
    place = write(tmp_path / "t.jsonl", line(), bad)
    with pytest.raises(WorkloadError, match=f"^{re.escape(f'{place}:2: {complaint}')}") as caught:
        read_trace(place)
    assert len(str(caught.value)) < len(str(place)) + 120


def test_ids_may_be_texts_such_as_digests(tmp_path: Path) -> None:
    """The same text is the same block: of two blocks the second prompt shares the first."""
    lines = [line(input_length=1024, hash_ids=["a3f5", last]) for last in ("bb01", "cc09", "bb01")]
    first, second, third = (one.block_ids for one in read_trace(write(tmp_path / "t.jsonl", *lines)))
    assert first == third
    assert (first[0] == second[0], first[1] == second[1]) == (True, False)
    assert all(0 < block < 1 << 60 for block in (*first, *second))


def test_stamps_out_of_order_are_sorted_with_a_word(tmp_path: Path) -> None:
    stamps = (0, 4000, 9000, 1000, 5000, 12000)
    place = write(tmp_path / "t.jsonl", *(line(timestamp=at, output_length=k + 1) for k, at in enumerate(stamps)))
    with Trace(place) as trace:
        assert [(r.timestamp_s, r.output_length) for r in trace] == [(0, 1), (1, 4), (4, 2), (5, 5), (9, 3), (12, 6)]
        assert trace.notes() == [f"{place}:4: timestamp: 1000 is before the line above it: sorted (1 such line)"]


def test_stamps_that_are_far_out_of_order_are_refused_with_the_remedy(tmp_path: Path) -> None:
    place = write(tmp_path / "t.jsonl", *(line(timestamp=10_000 + 300 * k) for k in range(1200)), line(timestamp=0))
    with pytest.raises(WorkloadError, match=r":1201: timestamp: 0 is before .*`netkv trace convert FILE OUT` sorts"):
        read_trace(place)
    with Trace(place, sort_all=True) as trace:
        assert [request.timestamp_s for request in trace][:2] == [0.0, 10.0]


def test_parts_sorted_on_disk_are_merged_and_keep_the_order_within_a_stamp() -> None:
    records = [Record(k, float(k % 7), 1, 1, None) for k in range(100)]
    assert list(sorted_on_disk(records, part=8)) == sorted(records, key=lambda record: record.stamp)


def zstd(content: bytes) -> bytes:
    held = pa.BufferOutputStream()
    with pa.CompressedOutputStream(held, "zstd") as stream:
        stream.write(content)
    return held.getvalue().to_pybytes()


LINES = f"{line()}\n{line(timestamp=3000)}\n".encode()
ZSTD = zstd(LINES)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\xef\xbb\xbf" + LINES, id="BOM"),
        pytest.param(gzip.compress(b"\xef\xbb\xbf" + LINES), id="BOM in gzip"),
        pytest.param(LINES.replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(ZSTD, id="zstd"),
        pytest.param(b"[" + LINES.strip().replace(b"\n", b",") + b"]", id="array"),
        pytest.param(json.dumps([GOOD, {**GOOD, "timestamp": 3000}], indent=2).encode(), id="array over lines"),
        pytest.param(LINES.replace(b"600", b"600.0").replace(b"[0, 1]", b"[0.0, 1]"), id="whole floats"),
    ],
)
def test_other_forms_of_the_same_trace_are_read(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "t.jsonl"
    place.write_bytes(content)
    assert read_trace(place) == [Request(0, 0.0, 600, 5, (0, 1)), Request(1, 3.0, 600, 5, (0, 1))]


def test_an_array_longer_than_a_piece_is_read_with_its_line_numbers(tmp_path: Path) -> None:
    place = tmp_path / "t.json"
    place.write_text(",\n".join([f"[{line()}", *(line(timestamp=3000) for _ in range(2000)), "{}]"]))
    with pytest.raises(WorkloadError, match=":2002: timestamp: missing"):
        read_trace(place)


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    place = tmp_path / "pipe"
    os.mkfifo(place)
    writer = Thread(target=place.write_bytes, args=(gzip.compress(LINES),))
    writer.start()
    found = read_trace(place)
    writer.join()
    assert len(found) == 2


def test_lines_without_ids_share_nothing_and_are_counted(tmp_path: Path) -> None:
    place = write(
        tmp_path / "t.jsonl", line(hash_ids=None), line(), line(hash_ids=[]), line().replace("[0, 1]", "null")
    )
    with Trace(place) as trace:
        assert [request.block_ids for request in trace] == [(), (0, 1), (), ()]
        assert trace.notes() == [f"{place}: no hash_ids in 3 of 4 requests: these share nothing"]


def test_requests_are_counted_without_being_understood(tmp_path: Path) -> None:
    place = write(tmp_path / "t.jsonl", line(), "", "not JSON")
    assert (count_requests(place, 9), count_requests(place, 1)) == (2, 1)
    array = tmp_path / "t.json"
    array.write_text(f"[{line()}, {line()}]")
    assert count_requests(array, 9) == 2


GZIPPED = gzip.compress("".join(f"{line(timestamp=k)}\n" for k in range(2000)).encode(), mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("t.jsonl", b"", "the trace is empty"),
        ("t.jsonl", b"\n \n\n", "the trace is empty"),
        ("t.jsonl.gz", b"", "the trace is empty"),
        ("t.jsonl.gz", gzip.compress(b"", mtime=0), "the trace is empty"),
        ("t.jsonl.gz", GZIPPED[: len(GZIPPED) // 2], "broken gzip after line"),
        ("t.jsonl.gz", GZIPPED[:5], "broken gzip after line 0"),
        ("t.jsonl.gz", GZIPPED[:40] + b"\x00" * 40 + GZIPPED[80:], "broken gzip after line"),
        ("t.jsonl.gz", GZIPPED[:-8] + b"\x00" * 8, "broken gzip after line 2000"),
        ("t.jsonl.gz", line().encode(), "not a gzip file, though its name ends in .gz"),
        ("t.jsonl", b"\x80\xfe\x00junk\n", ":1: not UTF-8 text"),
        ("t.jsonl", line().encode("utf-16"), ":1: UTF-16 text, UTF-8 was expected: `iconv -f UTF-16 -t UTF-8`"),
        ("t.jsonl", line().encode("utf-16-le"), ":1: UTF-16 text"),
        ("t.jsonl", line().encode("utf-16-be"), ":1: UTF-16 text"),
        ("t.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", ":1: a Git-LFS pointer"),
        ("t.jsonl.gz", gzip.compress(b"\n<!DOCTYPE html>\n", mtime=0), ":1: a web page (HTML or XML)"),
        ("t.jsonl", b"404: Not Found", ":1: a web server's answer (404)"),
        ("t.jsonl", b"BZh91AY", ":1: compressed by bzip2: `bzip2 -d` it first"),
        ("t.jsonl", json.dumps(GOOD, indent=1).encode(), ":1: JSON over several lines"),
        ("t.jsonl", line().replace(", ", ",\n").encode(), ":1: JSON over several lines"),
        ("t.csv", b"TIMESTAMP;ContextTokens;GeneratedTokens\n1;2;3\n", ":1: columns 'TIMESTAMP;Con"),
        ("t.csv", b"when,what,why\n1,2,3\n", ":1: columns 'when, what, why': a JSON object a line"),
        ("t.jsonl.zst", line().encode(), "not a zstd file, though its name ends in .zst"),
        ("t.jsonl.zst", ZSTD[:30], "broken zstd after line 0"),
        ("t.json", b"[", ":1: not JSON: the array does not end"),
        ("t.json", b"[]", "the trace is empty"),
        ("t.json", b"[1]", ":1: a JSON object was expected, not int"),
        ("t.json", f"[{line()},\n{line()}\n,{{]".encode(), ":3: not JSON"),
        ("t.json", f"[{line()}\n]\nx".encode(), ":3: not JSON: text after the array's end"),
        ("t.jsonl", bytes(range(1, 128)), "not JSON"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    place = tmp_path / name
    place.write_bytes(content)
    with pytest.raises(WorkloadError, match=re.escape(complaint)) as caught:
        read_trace(place)
    assert str(caught.value).startswith(str(place))


def test_a_directory_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=re.escape(f"{tmp_path}: Is a directory")):
        read_trace(tmp_path)
    with pytest.raises(WorkloadError, match=r"missing\.jsonl: No such file or directory"):
        read_trace(tmp_path / "missing.jsonl")


@settings(max_examples=150)
@given(content=st.binary(max_size=80))
def test_no_bytes_whatever_make_the_reader_fail_in_another_way(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.getbasetemp() / "junk.jsonl"
    place.write_bytes(content)
    with pytest.raises(WorkloadError):
        read_trace(place)
