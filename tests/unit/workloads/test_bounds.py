"""What a trace may cost: pipes that nobody writes to, lines and arrays without an end, blank lines, long prompts."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from workloads import Trace, WorkloadError, open_in_time, read_trace
from workloads.disk_sort import sorted_on_disk
from workloads.trace_formats import Record

GOOD = {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}


def line(**changes: Any) -> str:
    return json.dumps({**GOOD, **changes}) + "\n"


def test_a_pipe_into_which_nobody_writes_is_refused_and_one_with_data_is_read(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    with pytest.raises(WorkloadError, match=r"link: a pipe into which nobody wrote for 0\.01 s: start the program"):
        open_in_time(link, deadline_s=0.01)
    writer = Thread(target=pipe.write_bytes, args=[line().encode()])
    writer.start()
    with Trace(link) as trace:
        assert sum(1 for _ in trace) == 1
    writer.join()


@pytest.mark.parametrize(
    ("start", "filling", "complaint"),
    [
        (b'{"timestamp": 0, "x": "', b"a" * 1_000_000, ":1: a line of more than 8 MiB: one request a line"),
        (b'[{"hash_ids": [1', b",1" * 500_000, ":1: not JSON"),
        (b"", b"\n" * 1_000_000, ":1000001: 1,000,000 blank lines in a row"),
    ],
)
def test_a_small_file_that_unpacks_to_something_huge_is_refused_early(
    tmp_path: Path, start: bytes, filling: bytes, complaint: str
) -> None:
    place = tmp_path / "t.jsonl.gz"
    with gzip.open(place, "wb", compresslevel=1) as file:
        file.write(start)
        for _ in range(20):
            file.write(filling)
    with pytest.raises(WorkloadError, match=f"^{place}{complaint}"):
        read_trace(place)


@pytest.mark.parametrize("form", ["lines", "array"])
def test_a_name_that_is_there_twice_is_told(tmp_path: Path, form: str) -> None:
    twice = line().replace("0,", '0, "timestamp": 5,', 1)
    place = tmp_path / "t.jsonl"
    place.write_text(line() + twice if form == "lines" else f"[{line()},{twice}]")
    with pytest.raises(WorkloadError, match=r"t\.jsonl:2: 'timestamp' twice in one object: leave one of them"):
        read_trace(place)


def test_long_prompts_are_not_all_held_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workloads.trace.MOST_HELD_IDS", 10)
    place = tmp_path / "t.jsonl"
    place.write_text("".join(line(timestamp=k) for k in range(50)) + "no JSON\n")
    with Trace(place) as trace:  # with all fifty in the window, the last line would have been read by now
        assert trace._failure is None
        assert len(trace._window) == 5


def test_records_are_sorted_in_parts_of_as_many_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workloads.disk_sort.MOST_IDS", 3)
    records = [Record(k, (7 * k) % 20, 1, 1, (k,)) for k in range(20)]
    assert [one.stamp for one in sorted_on_disk(records, part=5)] == sorted(one.stamp for one in records)
    assert [one.stamp for one in sorted_on_disk(records[:2])] == [0, 7]
    assert list(sorted_on_disk([])) == []


def test_a_stamp_in_the_last_hours_of_the_calendar_is_shown_as_it_is(tmp_path: Path) -> None:
    rows = ("9999-12-31T23:59:59-23:59,1,1", "9999-12-31T23:59:58-23:59,1,1")
    place = tmp_path / "t.csv"
    place.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows))
    with Trace(place) as trace:
        assert sum(1 for _ in trace) == 2
        assert "sorted" in " ".join(trace.notes())


def test_a_small_parquet_file_of_very_many_rows_is_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"arrived_at": [0.0] * 2000, "num_prefill_tokens": [100] * 2000, "num_decode_tokens": [5] * 2000}
    place = tmp_path / "t.parquet"
    parquet.write_table(pa.table(rows), place)
    monkeypatch.setattr("workloads.trace_file.MOST_GROUP_ROWS", 1999)
    with pytest.raises(
        WorkloadError, match=r"t\.parquet: a row group of more than 1,999 rows or 1 GiB: write it with sm"
    ):
        read_trace(place)
    parquet.write_table(pa.table(rows), place, row_group_size=1000)
    assert len(read_trace(place)) == 2000


@pytest.mark.parametrize("rows", [{"spoilt": [1]}, {"session_id": ["spoilt"]}], ids=["name", "value"])
def test_parquet_with_a_name_or_a_value_that_is_not_utf8_is_refused(tmp_path: Path, rows: dict[str, list[Any]]) -> None:
    place = tmp_path / "t.parquet"
    request = {"timestamp": [0], "input_length": [8], "output_length": [1]}
    parquet.write_table(pa.table({**request, **rows}), place, compression="none")
    place.write_bytes(place.read_bytes().replace(b"spoilt", b"sp\xa3ilt"))
    with pytest.raises(WorkloadError, match=r"t\.parquet: broken Parquet file: .*utf-8"):
        read_trace(place)
