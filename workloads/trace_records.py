"""The formats of traces: from the lines of a file to records, in the file's own unit of time.

Mooncake: a JSON object a line, or in an array (kvcache-ai/Mooncake, FAST25-release/traces). Qwen-Bailian: the same with
chat ids (alibaba-edu/qwen-bailian-usagetraces-anon). LLMServingSim: the same with token ids (casys-kaist/LLMServingSim,
dataset/README.md). CSV: Azure (AzurePublicDataset, LLM inference traces 2023 and 2024), BurstGPT of six or eight
columns (HPMLL/BurstGPT), splitwise-sim (Mutinifni/splitwise-sim, generate_trace.py), Vidur (microsoft/vidur,
data/processed_traces), BLIS (inference-sim/inference-sim). vLLM's `bench serve --save-detailed`: one JSON object with
arrays (vllm-project/vllm, vllm/benchmarks/serve.py). Any of these rows in Parquet.
"""

from __future__ import annotations

import csv
import hashlib
import json
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from workloads.json_array import elements, without_doubles
from workloads.request import BLOCK_TOKENS, WorkloadError
from workloads.trace_file import TraceFile

LONGEST_TOKENS = 100_000_000
"""A length beyond this is a broken field, not a request."""
LATEST_STAMP = 1e19
"""A stamp beyond this is a broken field; nanoseconds since 1970 pass."""
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""The units of time stamps."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOT_A_TRACE = (
    "a JSON object a line (Mooncake, Qwen-Bailian, LLMServingSim) or the columns of Azure, BurstGPT, Vidur,"
    " splitwise-sim or BLIS were expected (docs/how-to/trace.md lists them)"
)
PROMPTS_AS_TEXT = ("payload", "text", "texts", "text_input", "messages")
"""Fields of AIPerf's and GenAI-Perf's input whose length in tokens a tokenizer would have to say."""


@dataclass(frozen=True, slots=True)
class Record:
    """A request as the line `line` states it; `stamp` in the file's unit, `block_ids` None where there are none."""

    line: int
    stamp: float
    input_length: int
    output_length: int
    block_ids: tuple[int, ...] | None


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


class Records:
    """The records of an open file, one after another. `format` is known from the start, as is what the first record
    says of all of them (`stated_unit`, `stated_block_tokens`; None mostly); `left_out` counts as it goes.

    WorkloadError names file, line and field; a file without a record has no format of its own (Mooncake's).
    """

    def __init__(self, file: TraceFile) -> None:
        self._file = file
        self.format = MOONCAKE
        self.stated_unit: str | None = None
        self.stated_block_tokens: int | None = None
        self.left_out = 0
        self._records = self._start()

    def __iter__(self) -> Iterator[Record]:
        return self._records

    @property
    def _place(self) -> str:
        return f"{self._file.path}:{self._file.number}"

    def _start(self) -> Iterator[Record]:
        if self._file.parquet:
            return self._of_parquet()
        if self._file.start == "[":
            return self._of_array()
        lines = (line for line in self._file.lines() if line.strip())
        first = next(lines, None)
        if first is None:
            return iter(())
        if not first.lstrip().startswith("{"):
            return self._of_csv(first, lines)
        if _goes_on(first):
            raise WorkloadError(
                f"{self._place}: JSON over several lines, one object a line was expected: `jq -c .` writes it so"
            )
        record = _decoded(self._place, first)
        self._learn(record)
        return self._of_result(record, lines) if self.format is VLLM_RESULT else self._of_lines(record, lines)

    def _learn(self, first: Any) -> None:
        if not isinstance(first, dict):
            return
        if "chat_id" in first and "parent_chat_id" in first:
            self.format = BAILIAN
        elif "input_toks" in first and "arrival_time_ns" in first:
            self.format = LLMSERVINGSIM
        elif "input_lens" in first and "output_lens" in first:
            self.format = VLLM_RESULT
        unit, tokens = first.get("time_unit"), first.get("block_tokens")
        self.stated_unit = unit if isinstance(unit, str) and unit in PER_SECOND else None
        self.stated_block_tokens = tokens if type(tokens) is int and tokens > 0 else None

    def _of_lines(self, first: Any, lines: Iterator[str]) -> Iterator[Record]:
        yield json_record(self._place, self._file.number, first)
        for line in lines:
            yield json_record(self._place, self._file.number, _decoded(self._place, line))

    def _of_array(self) -> Iterator[Record]:
        found = elements(self._file)
        first = next(found, None)
        if first is None:
            return iter(())
        self._learn(first[1])
        return self._of_elements(first, found)

    def _of_elements(self, first: tuple[int, Any], others: Iterator[tuple[int, Any]]) -> Iterator[Record]:
        yield json_record(f"{self._file.path}:{first[0]}", *first)
        for number, value in others:
            yield json_record(f"{self._file.path}:{number}", number, value)

    def _of_csv(self, header: str, lines: Iterator[str]) -> Iterator[Record]:
        try:
            names = [name.strip() for name in next(csv.reader([header]), [])]
        except csv.Error:
            names = []
        lower = [name.lower() for name in names]
        columns = next((wanted for wanted in COLUMNS if all(name in lower for name in wanted)), None)
        if columns is None:
            if (len(names) > 2 or any(header.count(mark) > 1 for mark in ";\t")) and not header.lstrip().startswith(
                ('"', "'")
            ):
                raise WorkloadError(f"{self._place}: columns {_shown(names)}: {NOT_A_TRACE}")
            try:
                _decoded(self._place, header)
            except WorkloadError as problem:
                raise WorkloadError(f"{problem}, nor a table that is known: {NOT_A_TRACE}") from None
            raise WorkloadError(f"{self._place}: a JSON object was expected, not {_shown(header.strip())}")
        self.format = COLUMNS[columns]
        at = [lower.index(name) for name in columns]
        return self._of_rows(lines, at, [names[k] for k in at])

    def _of_parquet(self) -> Iterator[Record]:
        names, rows = self._file.parquet_rows()
        lower = {name.lower(): name for name in names}
        columns = next((wanted for wanted in COLUMNS if all(name in lower for name in wanted)), None)
        if columns is not None:
            self.format = COLUMNS[columns]
            return self._of_values(rows, [lower[name] for name in columns])
        if not {"timestamp", "input_toks"} & set(names):
            raise WorkloadError(f"{self._file.path}: columns {_shown(names)}: {NOT_A_TRACE}")
        first = next(rows, None)
        if first is None:
            return iter(())
        self._learn(first)
        return self._of_elements((1, first), enumerate(rows, start=2))

    def _of_values(self, rows: Iterator[dict[str, Any]], names: list[str]) -> Iterator[Record]:
        for number, row in enumerate(rows, start=1):
            stamp, prompt, answer = (row[name] for name in names)
            found = self._row(f"{self._file.path}:{number}", number, (stamp, prompt, answer), names)
            if found is not None:
                yield found

    def _of_result(self, result: dict[str, Any], others: Iterator[str]) -> Iterator[Record]:
        """The requests of a benchmark: three arrays of one length."""
        arrays = [result.get(name) for name in ("start_times", "input_lens", "output_lens")]
        if not isinstance(arrays[0], list):
            raise WorkloadError(f"{self._place}: start_times: missing: `vllm bench serve --save-detailed` writes them")
        if any(not isinstance(array, list) or len(array) != len(arrays[0]) for array in arrays):
            raise WorkloadError(f"{self._place}: start_times, input_lens, output_lens: arrays of one length expected")
        names = ["start_times", "input_lens", "output_lens"]
        for number, values in enumerate(zip(*arrays, strict=True)):
            found = self._row(f"{self._place}: request {number}", self._file.number, values, names)
            if found is not None:
                yield found
        if next(others, None) is not None:
            raise WorkloadError(f"{self._place}: another result: one benchmark a file was expected")

    def _row(self, place: str, line: int, values: Sequence[Any], names: Sequence[str]) -> Record | None:
        """The record of a stamp and two lengths, or None where it is left out."""
        stamp, prompt, answer = values
        least = 0 if self.format.answerless else 1
        input_length, output_length = (
            _whole(place, value, name, least=least) for value, name in zip((prompt, answer), names[1:], strict=True)
        )
        if not input_length or not output_length:
            self.left_out += 1
            return None
        at = _date_us(place, str(stamp), names[0]) if self.format.dated else _number(place, stamp, names[0])
        return Record(line, at, input_length, output_length, None)

    def _of_rows(self, lines: Iterator[str], at: list[int], names: list[str]) -> Iterator[Record]:
        rows = csv.reader(lines, strict=True)
        while True:
            try:
                row = next(rows, None)
            except csv.Error as problem:
                raise WorkloadError(f"{self._place}: not CSV: {problem}") from None
            if row is None:
                return
            if len(row) <= max(at):
                raise WorkloadError(f"{self._place}: {len(row)} columns, at least {max(at) + 1} were expected")
            stamp, *lengths = (row[k].strip() for k in at)
            values = (stamp if self.format.dated else _csv_value(stamp), *map(_csv_value, lengths))
            found = self._row(self._place, self._file.number, values, names)
            if found is not None:
                yield found


def json_record(place: str, line: int, record: Any) -> Record:
    """A record from a JSON value. WorkloadError beginning with `place`."""
    if not isinstance(record, dict):
        raise WorkloadError(f"{place}: a JSON object was expected, not {type(record).__name__}")
    if "input_toks" in record:
        return _of_token_ids(place, line, record)
    if "input_length" not in record and any(name in record for name in PROMPTS_AS_TEXT):
        raise WorkloadError(
            f"{place}: input_length: missing: prompts as text have no length: count their tokens with the model's"
            " tokenizer"
        )
    if "benchmarks" in record:
        raise WorkloadError(
            f"{place}: a report of benchmarks (GuideLLM): write a line a request with timestamp, input_length and"
            " output_length"
        )
    if "timestamp" not in record and any(name in record for name in ("session_id", "delay", "delay_ms")):
        raise WorkloadError(
            f"{place}: timestamp: missing: turns after a delay (a closed loop) are not replayed: give each line a time"
        )
    return Record(
        line,
        _number(place, _field(place, record, "timestamp"), "timestamp"),
        _whole(place, _field(place, record, "input_length"), "input_length", least=1),
        _whole(place, _field(place, record, "output_length"), "output_length", least=1),
        _ids(place, record.get("hash_ids")),
    )


def _of_token_ids(place: str, line: int, record: dict[str, Any]) -> Record:
    """A request of LLMServingSim; the id of a full block is made from its token ids and all before them."""
    input_length = _whole(place, _field(place, record, "input_toks"), "input_toks", least=1)
    tokens = record.get("input_tok_ids")
    if tokens is not None and (not isinstance(tokens, list) or not set(map(type, tokens)) <= {int}):
        raise WorkloadError(f"{place}: input_tok_ids: a list of whole numbers was expected")
    return Record(
        line,
        _number(place, _field(place, record, "arrival_time_ns"), "arrival_time_ns"),
        input_length,
        _whole(place, _field(place, record, "output_toks"), "output_toks", least=1),
        _blocks_of(tokens[:input_length], LLMSERVINGSIM.block_tokens) if tokens else None,
    )


def _blocks_of(tokens: list[int], block_tokens: int) -> tuple[int, ...]:
    """Ids of the full blocks of a prompt, positive and below 2^60: the same for the same tokens from its start on."""
    ids, chain = [], hashlib.blake2b(digest_size=8)
    for end in range(block_tokens, len(tokens) + 1, block_tokens):
        chain.update(f"{tokens[end - block_tokens : end]}".encode())
        ids.append(int.from_bytes(chain.digest(), "big") >> 4)
    return tuple(ids)


def _goes_on(line: str) -> bool:
    """Whether a line is the beginning of a JSON object that ends on a later one."""
    try:
        json.loads(line)
    except json.JSONDecodeError as problem:
        return line.endswith("\n") and problem.pos >= len(line.rstrip())
    except (ValueError, RecursionError):
        return False
    return False


def _decoded(place: str, line: str) -> Any:
    try:
        return json.loads(line, object_pairs_hook=without_doubles)
    except WorkloadError as problem:
        raise WorkloadError(f"{place}: {problem}") from None
    except json.JSONDecodeError as problem:
        raise WorkloadError(f"{place}: not JSON: {problem.msg} at column {problem.colno}") from None
    except ValueError:  # the interpreter's own limit on the digits of a whole number
        raise WorkloadError(f"{place}: not JSON that can be read: a number of thousands of digits") from None
    except RecursionError:
        raise WorkloadError(f"{place}: not JSON: nested too deep") from None


def _field(place: str, record: dict[str, Any], name: str) -> Any:
    if name not in record:
        raise WorkloadError(f"{place}: {name}: missing")
    return record[name]


def _ids(place: str, found: Any) -> tuple[int, ...] | None:
    if found is None:
        return None
    if isinstance(found, list) and set(map(type, found)) <= {int}:
        return tuple(found) or None
    if isinstance(found, list) and all(type(block) in (int, float) and block % 1 == 0 for block in found):
        return tuple(int(block) for block in found)
    raise WorkloadError(f"{place}: hash_ids: a list of whole numbers was expected")


def _whole(place: str, value: Any, name: str, *, least: int) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise WorkloadError(f"{place}: {name}: {reprlib.repr(value)} is not a whole number")
    if not least <= value <= LONGEST_TOKENS:
        raise WorkloadError(f"{place}: {name}: {reprlib.repr(value)} is outside {least} ... {LONGEST_TOKENS}")
    return value


def _number(place: str, value: Any, name: str) -> float:
    if type(value) not in (int, float):
        raise WorkloadError(f"{place}: {name}: {reprlib.repr(value)} is not a number")
    if not 0 <= value <= LATEST_STAMP:  # NaN too
        remedy = ": add the same to every stamp, or take the line out" if value < 0 else ""
        raise WorkloadError(f"{place}: {name}: {reprlib.repr(value)} is outside 0 ... {LATEST_STAMP:g}{remedy}")
    number: float = value
    return number


def _csv_value(text: str) -> Any:
    """A number where the text is one."""
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def _date_us(place: str, text: str, name: str) -> float:
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        raise WorkloadError(
            f"{place}: {name}: {reprlib.repr(text)} is not a date and time such as 2023-11-16 18:00:04.25"
        ) from None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return _number(place, (date - EPOCH) // timedelta(microseconds=1), name)


def _shown(found: str | Sequence[str]) -> str:
    text = found if isinstance(found, str) else ", ".join(found)
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
