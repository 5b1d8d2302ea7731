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
import json
from collections.abc import Iterator, Sequence
from typing import Any

from workloads.json_array import elements, without_doubles
from workloads.json_records import json_record, read_csv_value, read_date_us, read_number, read_whole
from workloads.request import WorkloadError
from workloads.sessions import SessionStamps
from workloads.trace_file import TraceFile
from workloads.trace_formats import BAILIAN, COLUMNS, LLMSERVINGSIM, MOONCAKE, PER_SECOND, VLLM_RESULT, Record

NOT_A_TRACE = (
    "a JSON object a line (Mooncake, Qwen-Bailian, LLMServingSim) or the columns of Azure, BurstGPT, Vidur,"
    " splitwise-sim or BLIS were expected (docs/how-to/trace.md lists them)"
)


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
        self._sessions = SessionStamps()
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
        yield self._json(self._place, self._file.number, first)
        for line in lines:
            yield self._json(self._place, self._file.number, _decoded(self._place, line))

    def _of_array(self) -> Iterator[Record]:
        found = elements(self._file)
        first = next(found, None)
        if first is None:
            return iter(())
        self._learn(first[1])
        return self._of_elements(first, found)

    def _of_elements(self, first: tuple[int, Any], others: Iterator[tuple[int, Any]]) -> Iterator[Record]:
        yield self._json(f"{self._file.path}:{first[0]}", *first)
        for number, value in others:
            yield self._json(f"{self._file.path}:{number}", number, value)

    def _json(self, place: str, line: int, value: Any) -> Record:
        return self._sessions.placed(place, json_record(place, line, value))

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
            read_whole(place, value, name, least=least) for value, name in zip((prompt, answer), names[1:], strict=True)
        )
        if not input_length or not output_length:
            self.left_out += 1
            return None
        at = read_date_us(place, str(stamp), names[0]) if self.format.dated else read_number(place, stamp, names[0])
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
            values = (stamp if self.format.dated else read_csv_value(stamp), *map(read_csv_value, lengths))
            found = self._row(self._place, self._file.number, values, names)
            if found is not None:
                yield found


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


def _shown(found: str | Sequence[str]) -> str:
    text = found if isinstance(found, str) else ", ".join(found)
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
