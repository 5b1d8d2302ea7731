"""`netkv trace`, and what a run says of its trace."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import RUN, CommandLine, refused
from tests.support.paths import ROOT

pytestmark = pytest.mark.xdist_group("command line")

SMALL = (*RUN, "--congestion", "none", "--policy", "ca", "--out", "out")
SECONDS = [{"timestamp": float(k), "input_length": 2048, "output_length": 2, "hash_ids": [k]} for k in range(20)]
CHATS = [
    {"chat_id": k, "parent_chat_id": -1, "timestamp": 1.5 * k, "input_length": 521, "output_length": 5, "turn": 1,
     "hash_ids": [0, 1, 2, *range(10 + 30 * k, 40 + 30 * k)]}
    for k in range(3)
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "here"
    place.mkdir()
    for name, records in (("seconds", SECONDS), ("chats", CHATS)):
        (place / f"{name}.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return place


@pytest.fixture
def netkv(server: subprocess.Popen[str], folder: Path, tmp_path: Path) -> CommandLine:
    return CommandLine(server, folder, tmp_path)


def test_a_run_begins_with_the_part_of_its_trace_and_says_what_was_decided(netkv: CommandLine) -> None:
    more = netkv(*SMALL, "--trace", "seconds.jsonl", "--requests", "50", "--dry-run").out.splitlines()[0]
    assert more == "seconds.jsonl: 20 of 20 requests (50 asked for: it holds no more), the whole 19 s"
    said = netkv(*SMALL, "--trace", "seconds.jsonl", "--requests", "5")
    assert said.code == 0
    assert said.out.splitlines()[0] == "seconds.jsonl: 5 of 20 requests, the first 4 s"
    first, second = said.err.splitlines()
    assert first.startswith("netkv: seconds.jsonl: time stamps read as seconds, 1 requests/s: as milliseconds they")
    assert second.startswith("netkv: seconds.jsonl:1: hash_ids: 1 ids for 2048 tokens, 4 were expected")


def test_a_run_for_machines_keeps_its_output_json(netkv: CommandLine) -> None:
    said = netkv(*SMALL, "--trace", "chats.jsonl", "--json")
    assert json.loads(said.out)["summary"]["completed"] == 3
    assert said.err.splitlines() == [
        "chats.jsonl: 3 of 3 requests, the whole 3 s",
        "netkv: chats.jsonl: read as Qwen-Bailian trace, stamps in seconds",
    ]


def test_inspect_says_it_in_words_and_in_json(netkv: CommandLine) -> None:
    said = netkv("trace", "inspect", "chats.jsonl")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[:2] == [
        "chats.jsonl: qwen-bailian",
        "3 requests in 3 s, 0.667 requests/s",
    ]
    assert said.out.splitlines()[-1] == "`netkv run --requests 3` replays all of it"
    part = netkv("trace", "inspect", "chats.jsonl", "--requests", "2").out.splitlines()[-1]
    assert part.startswith("`netkv run --requests 2` replays the first 2 requests in ")
    found = json.loads(netkv("trace", "inspect", "chats.jsonl", "--json").out)
    assert (found["format"], found["time_unit"], found["block_tokens"], found["requests"]) == (
        "qwen-bailian",
        "s",
        16,
        3,
    )
    assert found["hit_share"] == pytest.approx(2 * 48 / (3 * 521))


def test_convert_writes_what_a_run_replays_alike(netkv: CommandLine, folder: Path) -> None:
    said = netkv("trace", "convert", "chats.jsonl", "ours.jsonl")
    assert (said.code, said.out) == (0, "3 requests: ours.jsonl\n")
    results = []
    for trace in ("chats", "ours"):
        netkv(*SMALL[:-1], trace, "--trace", f"{trace}.jsonl")
        results.append((folder / trace / "requests.parquet").read_bytes())
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trace", "inspect", "missing.jsonl"), "missing.jsonl: No such file or directory"),
        (("trace", "inspect", "chats.jsonl", "--time-unit", "h"), "--time-unit: 'h' is not one of s, ms, us, ns"),
        (
            ("trace", "inspect", "chats.jsonl", "--block-tokens", "512"),
            "chats.jsonl:1: hash_ids: 33 ids for 521 tokens",
        ),
        (("trace", "convert", "chats.jsonl", "seconds.jsonl"), "seconds.jsonl: is there already; nothing was overwr"),
        (
            (*RUN, "--trace", "chats.jsonl", "--set", "workload.block_tokens=0"),
            "workload.block_tokens: Input should be",
        ),
        ((*RUN, "--trace", "chats.jsonl", "--set", "workload.time_unit=h"), "workload.time_unit: Input should be 's'"),
    ],
)
def test_bad_input_is_one_line(netkv: CommandLine, arguments: tuple[str, ...], message: str) -> None:
    assert refused(netkv(*arguments)).startswith(message)


def test_a_pipe_is_inspected_but_not_replayed(folder: Path) -> None:
    content = (folder / "chats.jsonl").read_bytes()
    replay = (*RUN, "--trace", "/dev/stdin", "--out", str(folder / "x"))
    inspect, run = (
        subprocess.run(
            [sys.executable, "-m", "experiments.cli", *arguments], input=content, cwd=ROOT, capture_output=True,
            check=False, timeout=60,
        )
        for arguments in (("trace", "inspect", "/dev/stdin"), replay)
    )  # fmt: skip
    assert inspect.stdout.splitlines()[1].startswith(b"3 requests in 3 s")
    assert run.returncode == 2
    assert run.stderr.startswith(b"netkv: workload.trace: /dev/stdin: a pipe, which can be read only once")
