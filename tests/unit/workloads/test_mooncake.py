"""The reader of Mooncake traces: what it accepts, and how it names what it refuses."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads import Request, WorkloadError, read_trace

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
    place = write(tmp_path / name, line(), "", line(timestamp=3000.5, input_length=10, hash_ids=[0]))
    assert read_trace(place) == [
        Request(0, 0.0, 600, 5, (0, 1)),
        Request(1, 3.0005, 10, 5, (0,)),
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
        ("[" * 100_000, "not JSON: nested too deep"),
        ('{"timestamp": ' + "9" * 5000 + "}", "not JSON that can be read: a number of thousands of digits"),
        ("[1, 2]", "a JSON object was expected, not list"),
        ("null", "a JSON object was expected, not NoneType"),
        (line(timestamp=None), "timestamp: missing"),
        (line(input_length=None), "input_length: missing"),
        (line(output_length=None), "output_length: missing"),
        (line(hash_ids=None), "hash_ids: missing"),
        (line(timestamp="0"), "timestamp: '0' is not a number"),
        (line(timestamp=True), "timestamp: True is not a number"),
        (line(timestamp=-1), "timestamp: -1 is outside 0"),
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
        (line(hash_ids="01"), "hash_ids: a list of whole numbers was expected"),
        (line(hash_ids=[0, 1.5]), "hash_ids: a list of whole numbers was expected"),
        (line(hash_ids=[True]), "hash_ids: a list of whole numbers was expected"),
    ],
)
def test_a_bad_line_is_named_by_file_line_and_field(tmp_path: Path, bad: str, complaint: str) -> None:
    place = write(tmp_path / "t.jsonl", line(), bad)
    with pytest.raises(WorkloadError, match=f"^{re.escape(f'{place}:2: {complaint}')}") as caught:
        read_trace(place)
    assert len(str(caught.value)) < len(str(place)) + 120


def test_time_does_not_run_backwards(tmp_path: Path) -> None:
    place = write(tmp_path / "t.jsonl", line(timestamp=3000), line(timestamp=2999))
    with pytest.raises(WorkloadError, match=r":2: timestamp: 2999 ms is before the line above it"):
        read_trace(place)


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
        ("t.jsonl", b"\xff\xfe\x00junk\n", ":1: not UTF-8 text"),
        ("t.jsonl", bytes(range(1, 128)), "not JSON"),
        ("t.jsonl", b"\xef\xbb\xbf" + line().encode(), ":1: not JSON: Unexpected UTF-8 BOM"),
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
