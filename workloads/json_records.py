"""Records from JSON objects, and the checks that every value of a trace has to pass."""

from __future__ import annotations

import hashlib
import reprlib
from datetime import UTC, datetime, timedelta
from typing import Any

from workloads.request import WorkloadError
from workloads.trace_formats import LLMSERVINGSIM, Record

LONGEST_TOKENS = 100_000_000
"""A length beyond this is a broken field, not a request."""
LATEST_STAMP = 1e19
"""A stamp beyond this is a broken field; nanoseconds since 1970 pass."""
LONGEST_DELAY_MS = 604_800_000
"""A week."""
LONGEST_NAME = 200
"""Characters of the name of a session."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PROMPTS_AS_TEXT = ("payload", "text", "texts", "text_input", "messages", "turns")
"""Fields of AIPerf's and GenAI-Perf's input whose length in tokens a tokenizer would have to say, if at all."""


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
    session = _session(record.get("session_id"))
    delay_ms = _delay_ms(place, record) if session and record.get("timestamp") is None else None
    return Record(
        line,
        0.0 if delay_ms is not None else read_number(place, _field(place, record, "timestamp"), "timestamp"),
        read_whole(place, _field(place, record, "input_length"), "input_length", least=1),
        read_whole(place, _field(place, record, "output_length"), "output_length", least=1),
        _ids(place, record.get("hash_ids")),
        session,
        delay_ms,
    )


def _session(value: Any) -> str:
    """The name of a session, or "" where it is none that can be held."""
    return str(value)[:LONGEST_NAME] if type(value) in (str, int) else ""


def _delay_ms(place: str, record: dict[str, Any]) -> float:
    """AIPerf has `delay`, Dynamo `delay_ms`, both milliseconds; none: the next turn comes at once."""
    name = "delay_ms" if "delay" not in record else "delay"
    delay = record.get(name)
    if delay is not None and read_number(place, delay, name) > LONGEST_DELAY_MS:
        raise WorkloadError(f"{place}: {name}: {reprlib.repr(delay)} ms are more than a week")
    return float(delay or 0)


def _of_token_ids(place: str, line: int, record: dict[str, Any]) -> Record:
    """A request of LLMServingSim; the id of a full block is made from its token ids and all before them."""
    input_length = read_whole(place, _field(place, record, "input_toks"), "input_toks", least=1)
    tokens = record.get("input_tok_ids")
    if tokens is not None and (not isinstance(tokens, list) or not set(map(type, tokens)) <= {int}):
        raise WorkloadError(f"{place}: input_tok_ids: a list of whole numbers was expected")
    return Record(
        line,
        read_number(place, _field(place, record, "arrival_time_ns"), "arrival_time_ns"),
        input_length,
        read_whole(place, _field(place, record, "output_toks"), "output_toks", least=1),
        _blocks_of(tokens[:input_length], LLMSERVINGSIM.block_tokens) if tokens else None,
    )


def _blocks_of(tokens: list[int], block_tokens: int) -> tuple[int, ...]:
    """Ids of the full blocks of a prompt, positive and below 2^60: the same for the same tokens from its start on."""
    ids, chain = [], hashlib.blake2b(digest_size=8)
    for end in range(block_tokens, len(tokens) + 1, block_tokens):
        chain.update(f"{tokens[end - block_tokens : end]}".encode())
        ids.append(int.from_bytes(chain.digest(), "big") >> 4)
    return tuple(ids)


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
    if isinstance(found, list) and set(map(type, found)) == {str}:
        return tuple(_number_of(block) for block in found)
    raise WorkloadError(f"{place}: hash_ids: a list of whole numbers, or of texts such as digests, was expected")


def _number_of(text: str) -> int:
    """An id for a text, positive and below 2^60: the same for the same text in every trace."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 4


def read_whole(place: str, value: Any, name: str, *, least: int) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise WorkloadError(f"{place}: {name}: {reprlib.repr(value)} is not a whole number")
    if not least <= value <= LONGEST_TOKENS:
        raise WorkloadError(f"{place}: {name}: {reprlib.repr(value)} is outside {least} ... {LONGEST_TOKENS}")
    return value


def read_number(place: str, value: Any, name: str) -> float:
    if type(value) not in (int, float):
        raise WorkloadError(f"{place}: {name}: {reprlib.repr(value)} is not a number")
    if not 0 <= value <= LATEST_STAMP:  # NaN too
        remedy = ": add the same to every stamp, or take the line out" if value < 0 else ""
        raise WorkloadError(f"{place}: {name}: {reprlib.repr(value)} is outside 0 ... {LATEST_STAMP:g}{remedy}")
    number: float = value
    return number


def read_csv_value(text: str) -> Any:
    """A number where the text is one."""
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def read_date_us(place: str, text: str, name: str) -> float:
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        raise WorkloadError(
            f"{place}: {name}: {reprlib.repr(text)} is not a date and time such as 2023-11-16 18:00:04.25"
        ) from None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return read_number(place, (date - EPOCH) // timedelta(microseconds=1), name)
