"""The formats of traces, and what a trace leaves unsaid: its unit of time and the tokens of its blocks."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from workloads import Request, Trace, WorkloadError, count_requests, read_trace

AZURE_2023 = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:00:00.0000000,700,30
2023-11-16 18:00:04.2500000,350,64
"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,700,30
2024-05-10 02:00:04.259930+02:00,350,64
"""
BURSTGPT_6 = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,700,30,730,Conversation log
9.25,"GPT-4",350,64,414,API log
"""
BURSTGPT_8 = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
5.0,7,1.5,ChatGPT,700.0,30,730,Conversation log
9.25,,2.5,GPT-4,350,64,414,API log
"""


def written(folder: Path, text: str, name: str = "t.csv") -> Path:
    place = folder / name
    place.write_text(text)
    return place


def lines(folder: Path, records: Sequence[dict[str, Any]]) -> Path:
    full = ({"timestamp": 0, "input_length": 600, "output_length": 5, **record} for record in records)
    return written(folder, "".join(f"{json.dumps(record)}\n" for record in full), "t.jsonl")


def stamped(folder: Path, stamps: Sequence[float], **fields: Any) -> Path:
    return lines(folder, [{"timestamp": stamp, **fields} for stamp in stamps])


def read(place: Path, **given: Any) -> tuple[list[Request], list[str], Trace]:
    with Trace(place, **given) as trace:
        found = list(trace)
        return found, [note.removeprefix(str(place)).removeprefix(":").lstrip() for note in trace.notes()], trace


SPLITWISE_SIM = """request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size
0,2,0,5.0,1,700,30
1,2,0,9.25,1,350,64
"""
VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n5.0,700,30\n9.25,350,64\n"
BLIS = """request_id,session_id,input_tokens,output_tokens,arrival_time_us,send_time_us,status
0,s,700,30,5000000,5000100,ok
1,s,350,64,9250000,,ok
"""
BENCH_SERVE = '{"completed": 2, "input_lens": [700, 350], "output_lens": [30, 64], "start_times": [5.0, 9.25]}'
TOKEN_IDS = """{"input_toks": 700, "output_toks": 30, "arrival_time_ns": 5e9}
{"input_toks": 350, "output_toks": 64, "arrival_time_ns": 9250000000}
"""

# Tables


@pytest.mark.parametrize(
    ("text", "name", "start_s"),
    [
        *((AZURE_2023, "azure", 0), (AZURE_2024, "azure", 0), (BURSTGPT_6, "burstgpt", 5), (BURSTGPT_8, "burstgpt", 5)),
        *((SPLITWISE_SIM, "splitwise-sim", 5), (VIDUR, "vidur", 5), (BLIS, "blis", 5)),
        *((BENCH_SERVE, "vllm-bench-serve", 5), (TOKEN_IDS, "llmservingsim", 5)),
    ],
)
def test_formats_of_other_tools(tmp_path: Path, text: str, name: str, start_s: float) -> None:
    place = written(tmp_path, text)
    found, notes, trace = read(place)
    assert trace.format.name == name
    tokens = trace.block_tokens
    assert found == [Request(0, start_s, 700, 30, (), tokens), Request(1, start_s + 4.25, 350, 64, (), tokens)]
    assert count_requests(place, 9) == 2
    assert notes[0].startswith("read as ")
    assert notes[1] == "no hash_ids in 2 of 2 requests: these share nothing"


def test_failed_requests_of_a_log_are_left_out_and_counted(tmp_path: Path) -> None:
    found, notes, _ = read(written(tmp_path, BURSTGPT_6 + "10,ChatGPT,9,0,9,API log\n11,ChatGPT,8,1,9,API log\n"))
    assert [request.timestamp_s for request in found] == [5.0, 9.25, 11.0]
    assert "without a prompt or an answer, left out: 1 such row" in notes


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("yesterday,700,30", ":3: TIMESTAMP: 'yesterday' is not a date and time such as 2023"),
        ("5,700,30", ":3: TIMESTAMP: '5' is not a date and time"),
        ("1960-01-01 00:00:00,700,30", ":3: TIMESTAMP: -315619200000000 is outside 0"),
        ("2023-11-16 18:00:04,many,30", ":3: ContextTokens: 'many' is not a whole number"),
        ("2023-11-16 18:00:04,,30", ":3: ContextTokens: '' is not a whole number"),
        ("2023-11-16 18:00:04,-7,30", ":3: ContextTokens: -7 is outside 0"),
        ("2023-11-16 18:00:04,7", ":3: 2 columns, at least 3 were expected"),
    ],
)
def test_a_bad_row_is_named_by_line_and_column(tmp_path: Path, row: str, complaint: str) -> None:
    text = "".join(AZURE_2023.splitlines(keepends=True)[:2])
    with pytest.raises(WorkloadError, match=re.escape(complaint)):
        read_trace(written(tmp_path, f"{text}{row}\n"))


@pytest.mark.parametrize("text", [AZURE_2024, BURSTGPT_8, VIDUR])
def test_a_table_in_parquet_holds_the_same_requests(tmp_path: Path, text: str) -> None:
    place, packed = written(tmp_path, text), tmp_path / "t.parquet"
    parquet.write_table(csv.read_csv(place), packed)
    assert read_trace(packed) == read_trace(place)
    assert read(packed)[1:2] == read(place)[1:2]
    assert count_requests(packed, 9) == 2


def test_lines_with_ids_in_parquet_share_the_same_blocks(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 900 * k, "input_length": 1024, "output_length": 5, "hash_ids": [1, 2 + k % 2]} for k in range(4)
    ]
    packed = tmp_path / "t.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), packed)
    assert read_trace(packed) == read_trace(lines(tmp_path, rows))


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"when": 1}], "t.parquet: columns 'when': a JSON object a line"),
        ([{"timestamp": 0}], "t.parquet:1: input_length: missing"),
        ([{"arrived_at": 0.0, "num_prefill_tokens": None, "num_decode_tokens": 3}], ":1: num_prefill_tokens: None is"),
    ],
)
def test_a_bad_parquet_file_is_named_by_row_and_column(
    tmp_path: Path, rows: list[dict[str, Any]], complaint: str
) -> None:
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    with pytest.raises(WorkloadError, match=re.escape(complaint)):
        read_trace(tmp_path / "t.parquet")


def test_a_parquet_file_that_is_cut_or_compressed_is_named_with_the_remedy(tmp_path: Path) -> None:
    cut, packed = tmp_path / "t.parquet", tmp_path / "t.parquet.gz"
    cut.write_bytes(b"PAR1 and no more")
    packed.write_bytes(gzip.compress(cut.read_bytes()))
    with pytest.raises(WorkloadError, match=r"t\.parquet: broken Parquet file"):
        read_trace(cut)
    with pytest.raises(WorkloadError, match="read from its end: name the file itself"):
        read_trace(packed)


def test_prompts_share_the_token_ids_that_they_begin_with(tmp_path: Path) -> None:
    prompts = ([*range(40)], [*range(40)], [*range(20), *range(90, 110)])
    records = [
        {"input_toks": 40, "output_toks": 5, "arrival_time_ns": 1e9 * k, "input_tok_ids": ids}
        for k, ids in enumerate(prompts)
    ]
    _, notes, trace = read(written(tmp_path, "".join(f"{json.dumps(record)}\n" for record in records)))
    assert trace.hit_tokens == 32 + 16
    assert notes == ["read as LLMServingSim dataset, stamps in nanoseconds"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"input_lens": [1], "output_lens": [1]}', ":1: start_times: missing: `vllm bench serve --save-detailed`"),
        (
            '{"input_lens": [1], "output_lens": [], "start_times": [0]}',
            ":1: start_times, input_lens, output_lens: arrays",
        ),
        (f"{BENCH_SERVE}\n{BENCH_SERVE}", ":2: another result: one benchmark a file"),
        (BENCH_SERVE.replace("350", "-1"), ":1: request 1: input_lens: -1 is outside 0"),
        (
            '{"payload": [{"messages": []}], "timestamp": 3}',
            ":1: input_length: missing: prompts as text have no length",
        ),
        ('{"metadata": {}, "benchmarks": []}', ":1: a report of benchmarks (GuideLLM): write a line a request"),
        (
            '{"input_toks": 3, "output_toks": 1, "arrival_time_ns": 0, "input_tok_ids": "a b c"}',
            ":1: input_tok_ids: a list",
        ),
    ],
)
def test_what_another_tool_wrote_without_times_or_lengths(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(WorkloadError, match=re.escape(complaint)):
        read_trace(written(tmp_path, text, "t.json"))


# Units of time


def test_qwen_bailian_has_seconds_and_blocks_of_16_tokens(tmp_path: Path) -> None:
    chat = {"chat_id": 1, "parent_chat_id": -1, "type": "text", "turn": 1, "input_length": 40}
    place = lines(tmp_path, [{**chat, "timestamp": 61.25 + k, "hash_ids": [0, 1, 10 + k]} for k in range(3)])
    found, notes, trace = read(place)
    assert [request.timestamp_s for request in found] == [61.25, 62.25, 63.25]
    assert (trace.format.name, trace.block_tokens, found[0].block_tokens) == ("qwen-bailian", 16, 16)
    assert notes == ["read as Qwen-Bailian trace, stamps in seconds"]
    assert trace.hit_tokens == 2 * 32


@pytest.mark.parametrize("step", [1.0, 0.25, 3])
def test_seconds_that_milliseconds_would_make_a_flood_are_seconds(tmp_path: Path, step: float) -> None:
    found, notes, trace = read(stamped(tmp_path, [step * k for k in range(60)]))
    assert (found[-1].timestamp_s, trace.clock.unit) == (step * 59, "s")
    assert notes[0].startswith("time stamps read as seconds, ")
    assert "--set workload.time_unit=ms keeps milliseconds" in notes[0]


def test_microseconds_that_milliseconds_would_make_a_trickle(tmp_path: Path) -> None:
    found, notes, _ = read(stamped(tmp_path, [1_000_000 * k for k in range(60)]))
    assert found[-1].timestamp_s == 59
    assert notes[0].startswith("time stamps read as microseconds, 1 requests/s: as milliseconds they would be 0.001 ")


@pytest.mark.parametrize("stamps", [[0] * 9, [0], [0, 100_000], [300 * k for k in range(60)]])
def test_what_may_be_milliseconds_is_milliseconds_without_a_word(tmp_path: Path, stamps: list[int]) -> None:
    found, notes, _ = read(stamped(tmp_path, stamps, hash_ids=[0, 1]))
    assert [request.timestamp_s for request in found] == [stamp / 1e3 for stamp in stamps]
    assert notes == []


def test_a_rate_that_may_be_meant_is_told(tmp_path: Path) -> None:
    found, notes, _ = read(stamped(tmp_path, [20 * k for k in range(60)], hash_ids=[0, 1]))
    assert found[-1].timestamp_s == 1.18
    assert notes[0].startswith("time stamps read as milliseconds: 50 requests/s; if that is wrong, set")


def test_fractions_at_a_brisk_rate_are_seconds(tmp_path: Path) -> None:
    assert read(stamped(tmp_path, [20.5 * k for k in range(60)]))[2].clock.unit == "s"


def test_a_date_out_of_order_is_shown_as_a_date(tmp_path: Path) -> None:
    rows = "".join(reversed(AZURE_2023.splitlines(keepends=True)[1:]))
    _, notes, _ = read(written(tmp_path, AZURE_2023.splitlines(keepends=True)[0] + rows))
    assert notes[1].startswith("3: timestamp: 2023-11-16 18:00:00+00:00 is before the line above it: sorted")


def test_a_few_stamps_decide_nothing_but_are_told(tmp_path: Path) -> None:
    found, notes, _ = read(stamped(tmp_path, [0, 1, 2]))
    assert found[-1].timestamp_s == 0.002
    assert notes[0].startswith("time stamps read as milliseconds: 1,000 requests/s; if that is wrong, set")


@pytest.mark.parametrize(("unit", "per_s"), [("s", 1), ("ms", 1000), ("us", 10**6), ("ns", 10**9)])
def test_stamps_since_1970_in_any_unit_start_at_zero(tmp_path: Path, unit: str, per_s: int) -> None:
    stamps = [1_700_000_000 * per_s + k * per_s // 1 for k in range(4)]
    found, notes, trace = read(stamped(tmp_path, stamps))
    assert [request.timestamp_s for request in found] == [0, 1, 2, 3]
    assert trace.clock.unit == unit
    assert "since 1970; the first one is t = 0" in notes[0]


def test_a_unit_that_is_given_is_kept(tmp_path: Path) -> None:
    place = stamped(tmp_path, [float(k) for k in range(60)])
    assert read(place, time_unit="ms")[0][-1].timestamp_s == 0.059
    assert read_trace(place, time_unit="us")[-1].timestamp_s == 59e-6
    assert read_trace(stamped(tmp_path, [1.7e9, 1.7e9 + 2]), time_unit="s")[-1].timestamp_s == 2


# Blocks


def test_ids_of_16_tokens_are_known_by_their_count(tmp_path: Path) -> None:
    """521 tokens have 33 blocks of 16; three blocks, 48 tokens, are shared."""
    records = [
        {"timestamp": 10_000 * k, "input_length": 521, "hash_ids": [100, 101, 102, *range(200 + 99 * k, 230 + 99 * k)]}
        for k in range(2)
    ]
    found, notes, trace = read(lines(tmp_path, records))
    assert found[0].block_tokens == 16
    assert trace.hit_tokens == 48
    assert notes == ["a block has 16 tokens, not 512: line 1 has 33 hash_ids for 521 tokens"]


@pytest.mark.parametrize(
    ("prompts", "tokens"),
    [
        ([(2048, 4), (600, 2), (10, 1)], 512),
        ([(2048, 4), (600, 1), (100, 0)], 512),  # only full blocks have an id
        ([(2048, 32), (600, 10)], 64),
        ([(2000, 125), (600, 38)], 16),  # nothing but the count tells full blocks, 37 of 16, from all
        ([(100, 3)], 48),
        ([(768 * k, k) for k in range(2, 50)], 768),
        ([(9000, 3)], 512),  # the beginning of a prompt may have ids alone
    ],
)
def test_the_block_size_that_counts_of_ids_prove(tmp_path: Path, prompts: list[tuple[int, int]], tokens: int) -> None:
    records, first = [], 0
    for length, count in prompts:
        records.append(
            {"timestamp": 1000 * len(records), "input_length": length, "hash_ids": [*range(first, first + count)]}
        )
        first += count
    assert read(lines(tmp_path, records))[2].block_tokens == tokens


def test_counts_that_no_block_size_fits_are_refused_by_line(tmp_path: Path) -> None:
    place = lines(
        tmp_path, [{"input_length": length, "hash_ids": [*range(count)]} for length, count in ((20, 1), (20, 2))]
    )
    with pytest.raises(WorkloadError, match=":2: hash_ids: 2 ids for 20 tokens, which have 1 at 512 tokens a block"):
        read_trace(place)
    with pytest.raises(WorkloadError, match=":1: hash_ids: 3 ids for 600 tokens, which have 2 at 400 tokens a block"):
        read_trace(lines(tmp_path, [{"hash_ids": [0, 1, 2]}]), block_tokens=400)


def test_fewer_ids_than_blocks_are_told_and_share_what_they_prove(tmp_path: Path) -> None:
    place = lines(tmp_path, [{"input_length": 5000, "hash_ids": [0]}, {"input_length": 6000, "hash_ids": [0]}])
    _, notes, trace = read(place)
    assert trace.hit_tokens == 512
    assert notes == [
        "1: hash_ids: 1 ids for 5000 tokens, 10 were expected: the rest of it shares nothing (2 such requests)"
    ]


def test_an_id_after_another_block_is_told_by_line_and_not_shared(tmp_path: Path) -> None:
    place = lines(tmp_path, [{"input_length": 1024, "hash_ids": ids} for ids in ([1, 2], [3, 2], [3, 2], [1, 2])])
    found, notes, trace = read(place)
    assert notes == [
        "2: hash_ids: the id of block 2 was seen before after another block: not shared from there on (2 such requests)"
    ]
    assert [request.block_ids[0] for request in found] == [1, 3, 3, 1]
    assert found[1].block_ids == found[2].block_ids != found[0].block_ids
    assert trace.hit_tokens == 2 * 1024  # of the third and the fourth
