"""A trace in figures, and a trace in our format: the same requests, whatever it was before."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from workloads import WorkloadError, convert_trace, read_trace, report_on_trace


def write(place: Path, *records: dict[str, Any]) -> Path:
    full = ({"timestamp": 0, "input_length": 1024, "output_length": 5, **record} for record in records)
    place.write_text("".join(f"{json.dumps(record)}\n" for record in full))
    return place


def turns(place: Path) -> Path:
    """A conversation of four turns, 800 ms apart, each half a thousand tokens longer twice."""
    ids = (0, 1, 10, 11, 20, 21, 30, 31)
    return write(
        place,
        *({"timestamp": 800 * k, "input_length": 1024 * (k + 1), "hash_ids": [*ids[: 2 * k + 2]]} for k in range(4)),
    )


def test_the_figures_of_a_trace(tmp_path: Path) -> None:
    report = report_on_trace(turns(tmp_path / "t.jsonl"))
    assert (report.format, report.requests, report.time_unit, report.block_tokens) == ("mooncake", 4, "ms", 512)
    assert (report.span_s, report.rate_rps, report.peak_rps, report.grid_s) == (2.4, pytest.approx(1.25), None, 0)
    assert report.mean_input == 2560
    assert report.input_lengths == {"min": 1024, "p50": 2048, "p90": 4096, "p99": 4096, "max": 4096}
    assert report.hit_share == pytest.approx(6 / 10)  # 1 + 2 + 3 of 1 + 2 + 3 + 4 thousand tokens
    assert report.warnings == []


def test_the_part_that_a_run_replays_differs_from_the_whole(tmp_path: Path) -> None:
    """The first half of the four turns: 1,024 and 2,048 tokens, of which the second begins with the first."""
    part = report_on_trace(turns(tmp_path / "t.jsonl"), replayed=2).replayed
    assert (part.requests, part.span_s, part.rate_rps) == (2, 0.8, pytest.approx(1.25))
    assert (part.mean_input, part.mean_output, part.hit_share) == (1536, 5, pytest.approx(1 / 3))
    whole = report_on_trace(tmp_path / "t.jsonl", replayed=9)
    assert (whole.replayed.requests, whole.replayed.hit_share) == (4, whole.hit_share)


def test_the_busiest_ten_seconds(tmp_path: Path) -> None:
    stamps = (0, 10_000, 10_500, 11_000, 25_000)
    assert report_on_trace(write(tmp_path / "t.jsonl", *({"timestamp": at} for at in stamps))).peak_rps == 0.3


def test_what_looks_wrong_with_a_trace(tmp_path: Path) -> None:
    stamps = (*range(500_000, 520_000, 1000), *range(900_000, 1_000_000, 100))
    report = report_on_trace(write(tmp_path / "t.jsonl", *({"timestamp": stamp} for stamp in stamps)))
    assert [warning.partition(": ")[2] for warning in report.warnings] == [
        "no hash_ids in 1020 of 1020 requests: these share nothing",
        "begins at 500 s; a run takes its first request as t = 0",
        "no request for 381 s, from 519 s on",
    ]


def test_a_burst_has_no_rate(tmp_path: Path) -> None:
    report = report_on_trace(write(tmp_path / "t.jsonl", {"hash_ids": [0, 1]}, {"hash_ids": [2, 3]}))
    assert report.rate_rps is None
    assert report.warnings[0].endswith(": all requests have the same time stamp")


def test_long_lengths_are_counted_to_four_digits(tmp_path: Path) -> None:
    report = report_on_trace(write(tmp_path / "t.jsonl", *({"input_length": 123_456 + k} for k in range(20))))
    assert report.input_lengths == {"min": 123_456, "p50": 123_475, "p90": 123_475, "p99": 123_475, "max": 123_475}


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_a_converted_trace_holds_the_same_requests(tmp_path: Path, name: str) -> None:
    place, out = turns(tmp_path / "t.jsonl"), tmp_path / name
    assert convert_trace(place, out) == (4, [])
    assert read_trace(out) == read_trace(place)
    assert out.read_bytes().startswith(b"\x1f\x8b") == name.endswith(".gz")
    text = (gzip.decompress(out.read_bytes()) if name.endswith(".gz") else out.read_bytes()).decode()
    assert json.loads(text.splitlines()[1]) == {
        "timestamp": 800, "input_length": 2048, "output_length": 5, "hash_ids": [0, 1, 10, 11],
    }  # fmt: skip


def test_what_was_found_out_is_stated_in_the_converted_trace(tmp_path: Path) -> None:
    """Without it, 100 requests within 0.1 s would be read as seconds, and one id as one of 512 tokens."""
    records = [{"timestamp": k, "input_length": 100, "hash_ids": [k]} for k in range(100)]
    place, out = write(tmp_path / "t.jsonl", *records), tmp_path / "out.jsonl"
    convert_trace(place, out, time_unit="ms", block_tokens=128)
    found = read_trace(out)
    assert (found[-1].timestamp_s, found[0].block_tokens) == (0.099, 128)


def test_a_log_becomes_a_trace_in_order_that_shares_nothing(tmp_path: Path) -> None:
    place, out = tmp_path / "t.csv", tmp_path / "out.jsonl"
    rows = [f"2023-11-16 18:{minute:02}:00.25,700,30\n" for minute in (30, 10, 20)]
    place.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(rows))
    convert_trace(place, out)
    found = read_trace(out)
    assert [request.timestamp_s for request in found] == [0, 600, 1200]
    assert len({block for request in found for block in request.block_ids}) == 6
    assert report_on_trace(out).hit_share == 0


def test_ids_that_contradict_are_written_apart(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    convert_trace(write(tmp_path / "t.jsonl", {"hash_ids": [1, 2]}, {"hash_ids": [3, 2]}), out)
    assert report_on_trace(out).warnings == [f"{out}: all requests have the same time stamp"]
    assert all(block >= 0 for request in read_trace(out) for block in request.block_ids)


def test_nothing_is_overwritten_and_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    place = turns(tmp_path / "t.jsonl")
    with pytest.raises(WorkloadError, match=r"t\.jsonl: is there already; nothing was overwritten"):
        convert_trace(place, place)
    place.write_text(place.read_text() + "{\n")
    with pytest.raises(WorkloadError, match=":5: not JSON"):
        convert_trace(place, tmp_path / "out.jsonl")
    with pytest.raises(WorkloadError, match="there is no folder"):
        convert_trace(turns(tmp_path / "u.jsonl"), tmp_path / "nowhere" / "out.jsonl")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["t.jsonl", "u.jsonl"]
