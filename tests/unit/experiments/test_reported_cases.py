"""Cases that users of other tools reported, run as a user would, each with its value by hand.

One prefill and one decode instance, 25 GB/s between them, 327,680 bytes of KV a token.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from experiments.cli import app

PAIR = ("fabric.pods=1", "fabric.racks_per_pod=1", "fabric.servers_per_rack=2", "fabric.gpus_per_instance=8")
KV_B = 327_680


def replayed(folder: Path, records: list[dict[str, Any]], *settings: str) -> pd.DataFrame:
    """The requests of a run of these records without background traffic, by number."""
    trace, out = folder / "t.jsonl", folder / "run"
    trace.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    given = [word for setting in (*PAIR, *settings) for word in ("--set", setting)]
    arguments = ["--world", "analytic", "--congestion", "none", "--trace", str(trace), "--out", str(out)]
    said = CliRunner().invoke(app, ["run", *arguments, *given])
    assert said.exit_code == 0, said.output
    return pd.read_parquet(out / "requests.parquet").set_index("request_id").sort_index()


def test_one_request_takes_its_prefill_its_transfer_and_a_step(tmp_path: Path) -> None:
    """vllm#22454: what TTFT, TPOT and the end-to-end latency are of. 2,048 tokens at 25 GB/s take 26.84 ms."""
    one = {"timestamp": 0, "input_length": 2048, "output_length": 5, "hash_ids": [1, 2, 3, 4]}
    found = replayed(tmp_path, [one], "workload.arrivals=raw").loc[0]
    assert found["kv_transfer_ms"] == pytest.approx(2048 * KV_B / 25e9 * 1e3, abs=0.01)
    assert found["ttft_ms"] == pytest.approx(79.906 + 26.848 + 30, abs=0.001)
    assert found["tpot_ms"] == 30
    assert found["e2el_ms"] == pytest.approx(found["ttft_ms"] + 4 * 30)


def test_blocks_of_16_tokens_that_nobody_mentioned(tmp_path: Path) -> None:
    """vllm#39795, dynamo#8998: of 521 tokens 48 are shared, three blocks, not all."""
    ids = ([*range(100, 133)], [100, 101, 102, *range(200, 230)])
    prompts = [
        {"timestamp": 10_000 * k, "input_length": 521, "output_length": 5, "hash_ids": found}
        for k, found in enumerate(ids)
    ]
    second = replayed(tmp_path, prompts, "workload.arrivals=raw").loc[1]
    assert (second["cached_tokens"], second["kv_bytes"]) == (48, 473 * KV_B)


def test_turns_of_a_conversation_keep_their_times_and_their_order(tmp_path: Path) -> None:
    """aiperf#1129, vllm#55937: 0.8 s apart, each 1,024 tokens longer, and only these move."""
    turns = [
        {"timestamp": 800 * k, "input_length": 1024 * (k + 1), "output_length": 8, "hash_ids": [*range(2 * k + 2)]}
        for k in range(4)
    ]
    found = replayed(tmp_path, turns)
    assert found["timestamp_s"].tolist() == [0, 0.8, 1.6, 2.4]
    assert found["kv_bytes"].tolist() == [1024 * KV_B] * 4


@pytest.mark.parametrize(("when", "ttft_ms"), [("before_transfer", 72_457.46), ("after_transfer", 71_277.81)])
def test_a_transfer_waits_for_memory_where_engines_do(tmp_path: Path, when: str, ttft_ms: float) -> None:
    """inference-sim#1343: room for one of four prompts; as with vLLM's connectors the second transfer waits for it.

    The first holds it from 10,068 ms of prefill on for 1,180 ms of transfer and 2,000 steps: then the second's 1,180 ms
    and its first step, or, where KV waits beside the memory, the step alone.
    """
    prompts = [
        {"timestamp": 0, "input_length": 90_000, "output_length": 2000, "hash_ids": [*range(176 * k, 176 * k + 176)]}
        for k in range(4)
    ]
    memory = ("serving.kv_memory_tokens=100000", "serving.prefix_cache_tokens=0", f"serving.kv_admission={when}")
    found = replayed(tmp_path, prompts, "workload.arrivals=raw", *memory)
    assert found["ttft_ms"].loc[1] == pytest.approx(ttft_ms, abs=0.01)
    first_ends_ms = 10_068.1585 + 90_000 * KV_B / 25e9 * 1e3 + 2000 * 30
    waits_ms = 90_000 * KV_B / 25e9 * 1e3 if when == "before_transfer" else 0
    assert found["ttft_ms"].loc[1] == pytest.approx(first_ends_ms + waits_ms + 30, abs=1)
