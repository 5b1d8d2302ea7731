"""Reader of Mooncake traces: a JSON object a line, plain or gzip (kvcache-ai/Mooncake, FAST25-release/traces)."""

from __future__ import annotations

import gzip
import json
import reprlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from workloads.request import Request, WorkloadError

GZIP_MAGIC = b"\x1f\x8b"
LONGEST_TOKENS = 100_000_000
"""A length beyond this is a broken field, not a request."""
LATEST_MS = 1e15
"""A stamp beyond this is a broken field; milliseconds since 1970 pass."""


def read_trace(path: Path, *, first: int = 0, limit: int | None = None) -> list[Request]:
    """Read the requests `first` to `first + limit` of a trace; their `timestamp_s` is the file's stamp, in seconds.

    limit: None reads to the end. Every line up to the last one needed is checked. Raises WorkloadError naming file,
    line and field.
    """
    requests: list[Request] = []
    with _open(path) as lines:
        for number, line in enumerate(_text_lines(path, lines), start=1):
            if not line.strip():
                continue
            request = _parse(f"{path}:{number}", line, len(requests))
            if requests and request.timestamp_s < requests[-1].timestamp_s:
                raise WorkloadError(
                    f"{path}:{number}: timestamp: {request.timestamp_s * 1e3:g} ms is before the line above it"
                )
            requests.append(request)
            if limit is not None and len(requests) >= first + limit:
                break
    if not requests:
        raise WorkloadError(f"{path}: the trace is empty")
    if len(requests) <= first:
        raise WorkloadError(f"{path}: holds {len(requests)} requests, so there is none from number {first} on")
    return requests[first:]


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    try:
        with path.open("rb") as probe:
            compressed = probe.read(2) == GZIP_MAGIC
        if path.suffix == ".gz" and not compressed and path.stat().st_size:
            raise WorkloadError(f"{path}: not a gzip file, though its name ends in .gz")
        return gzip.open(path, "rb") if compressed else path.open("rb")
    except OSError as problem:
        raise WorkloadError(f"{path}: {problem.strerror or problem}") from None


def _text_lines(path: Path, lines: BinaryIO | gzip.GzipFile) -> Iterator[str]:
    number = 0
    try:
        for line in lines:
            number += 1
            yield line.decode("utf-8")
    except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise WorkloadError(f"{path}: broken gzip after line {number}: {problem}") from None
    except UnicodeDecodeError:
        raise WorkloadError(f"{path}:{number}: not UTF-8 text") from None


def _parse(place: str, line: str, request_id: int) -> Request:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as problem:
        raise WorkloadError(f"{place}: not JSON: {problem.msg} at column {problem.colno}") from None
    except ValueError:  # the interpreter's own limit on the digits of a whole number
        raise WorkloadError(f"{place}: not JSON that can be read: a number of thousands of digits") from None
    except RecursionError:
        raise WorkloadError(f"{place}: not JSON: nested too deep") from None
    if not isinstance(record, dict):
        raise WorkloadError(f"{place}: a JSON object was expected, not {type(record).__name__}")
    input_length = _whole(place, record, "input_length", least=1)
    blocks = _field(place, record, "hash_ids")
    if not isinstance(blocks, list) or not all(type(block) is int for block in blocks):
        raise WorkloadError(f"{place}: hash_ids: a list of whole numbers was expected")
    return Request(
        request_id=request_id,
        timestamp_s=_milliseconds(place, record) / 1e3,
        input_length=input_length,
        output_length=_whole(place, record, "output_length", least=1),
        block_ids=tuple(blocks),
    )


def _field(place: str, record: dict[str, Any], name: str) -> Any:
    if name not in record:
        raise WorkloadError(f"{place}: {name}: missing")
    return record[name]


def _whole(place: str, record: dict[str, Any], name: str, *, least: int) -> int:
    value = _field(place, record, name)
    if type(value) is not int:
        raise WorkloadError(f"{place}: {name}: {reprlib.repr(value)} is not a whole number")
    if not least <= value <= LONGEST_TOKENS:
        raise WorkloadError(f"{place}: {name}: {reprlib.repr(value)} is outside {least} ... {LONGEST_TOKENS}")
    return value


def _milliseconds(place: str, record: dict[str, Any]) -> float:
    value = _field(place, record, "timestamp")
    if type(value) not in (int, float):
        raise WorkloadError(f"{place}: timestamp: {reprlib.repr(value)} is not a number of milliseconds")
    if not 0 <= value <= LATEST_MS:  # NaN too
        raise WorkloadError(f"{place}: timestamp: {reprlib.repr(value)} is outside 0 ... {LATEST_MS:g} ms")
    return float(value)
