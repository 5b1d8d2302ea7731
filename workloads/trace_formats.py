"""What a record of a trace is, and what each kind of trace is documented to mean."""

from __future__ import annotations

from dataclasses import dataclass

from workloads.request import BLOCK_TOKENS

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""The units of time stamps."""


@dataclass(frozen=True, slots=True)
class Record:
    """A request as the line `line` states it; `stamp` in the file's unit, `block_ids` None where there are none.

    `session`: what it is a turn of, or ""; `delay_ms`: from the end of the turn before, which then has its stamp
    (`sessions.SessionStamps`), None where it has a stamp of its own.
    """

    line: int
    stamp: float
    input_length: int
    output_length: int
    block_ids: tuple[int, ...] | None
    session: str = ""
    delay_ms: float | None = None


@dataclass(frozen=True)
class Format:
    """What a kind of trace is documented to mean: the unit of its stamps and the tokens of a block.

    `dated`: its stamps are dates, which `records` gives as microseconds since 1970. `answerless`: its log holds failed
    requests, which have no answer and are left out.
    """

    name: str
    title: str
    time_unit: str
    block_tokens: int = BLOCK_TOKENS
    dated: bool = False
    answerless: bool = False


MOONCAKE = Format("mooncake", "Mooncake trace", "ms")
BAILIAN = Format("qwen-bailian", "Qwen-Bailian trace", "s", block_tokens=16)
AZURE = Format("azure", "Azure CSV", "us", dated=True, answerless=True)
BURSTGPT = Format("burstgpt", "BurstGPT CSV", "s", answerless=True)
SPLITWISE_SIM = Format("splitwise-sim", "splitwise-sim CSV", "s")
VIDUR = Format("vidur", "Vidur CSV", "s")
BLIS = Format("blis", "BLIS trace", "us", answerless=True)
LLMSERVINGSIM = Format("llmservingsim", "LLMServingSim dataset", "ns", block_tokens=16)
VLLM_RESULT = Format("vllm-bench-serve", "result of vLLM's bench serve", "s", answerless=True)

COLUMNS = {
    ("timestamp", "contexttokens", "generatedtokens"): AZURE,
    ("timestamp", "request tokens", "response tokens"): BURSTGPT,
    ("arrival_timestamp", "prompt_size", "token_size"): SPLITWISE_SIM,
    ("arrived_at", "num_prefill_tokens", "num_decode_tokens"): VIDUR,
    ("arrival_time_us", "input_tokens", "output_tokens"): BLIS,
}
"""The columns that are read of a table, in lower case, and whose they are."""
