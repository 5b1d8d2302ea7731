"""Measured tables of prefill and decode times: files of aiconfigurator and of Vidur's profiler.

The formats, by the columns that are read (times in milliseconds):

- aiconfigurator's summaries (`ColumnsStatic` and `ColumnsAgg` in its sdk/common.py): `isl`, `bs`, `ttft`, `tpot`, and
  where they are there `context_latency`, `tp`, `pp`. The prefill of a prompt is the least `context_latency`, or `ttft`,
  of the rows with its `isl` and the smallest batch; the step of a batch the median `tpot` of its rows.
- Vidur's `mlp.csv` (vidur/profiling): `num_tokens`, `num_tensor_parallel_workers`, and the median of each operation of
  a layer, `time_stats.NAME.median`. A layer's attention comes from `attention.csv` beside it: `batch_size`,
  `prefill_chunk_size`, `kv_cache_size`, `is_prefill`, and two more medians, of `attn_prefill` and `attn_decode`. The
  sum is times the layers of the model. Collectives and the host's part are in other files, and are not in it.

A table that falls anywhere, as measured ones may, is read as its highest value so far.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

MOST_BYTES = 1 << 26
MOST_ROWS = 500_000

AICONFIGURATOR = ("isl", "bs", "ttft", "tpot")
VIDUR = ("num_tokens", "num_tensor_parallel_workers")
VIDUR_ATTENTION = ("batch_size", "prefill_chunk_size", "kv_cache_size", "is_prefill", "num_tensor_parallel_workers")
ONCE_A_STEP = "time_stats.emb."
"""The operation of Vidur's `mlp.csv` that is not part of a layer."""

Row = Mapping[str, str]
Table = tuple[tuple[int, float], ...]


class MeasuredCosts(NamedTuple):
    """Prefill seconds by prompt tokens, and seconds of a decode step by batch size."""

    prefill_table_s: Table
    step_table_s: Table


def read_measured(path: Path, gpus: int, layers: int, context_tokens: float) -> MeasuredCosts:
    """The measured costs of one instance of `gpus` GPUs.

    layers, context_tokens: of the model, for files that measure one layer. ValueError, in one line, for a file that
    cannot be read, is too large, is none of these formats, or has no row for so many GPUs.
    """
    rows = _rows(path)
    columns = rows[0].keys()
    if set(AICONFIGURATOR) <= columns:
        return _of_aiconfigurator(path, rows, gpus)
    if set(VIDUR) <= columns:
        return _of_vidur(path, rows, gpus, layers, context_tokens)
    raise ValueError(
        f"{path}: columns {', '.join(list(columns)[:6])}, ...: expected aiconfigurator's {', '.join(AICONFIGURATOR)} or"
        f" Vidur's {', '.join(VIDUR)}, time_stats.*.median"
    )


def _of_aiconfigurator(path: Path, rows: list[Row], gpus: int) -> MeasuredCosts:
    split = [row for row in rows if "tp" not in row or _whole(path, row, "tp") * _whole(path, row, "pp", 1) == gpus]
    rows = _some(path, split, rows, gpus, "tp x pp")
    smallest = min(_whole(path, row, "bs") for row in rows)
    prefill: defaultdict[int, list[float]] = defaultdict(list)
    steps: defaultdict[int, list[float]] = defaultdict(list)
    for row in rows:
        batch = _whole(path, row, "bs")
        if batch == smallest:
            took = "context_latency" if row.get("context_latency") else "ttft"
            prefill[_whole(path, row, "isl")].append(_seconds(path, row, took) / smallest)
        steps[batch].append(_seconds(path, row, "tpot"))
    return MeasuredCosts(_table(prefill, min), _table(steps, median))


def _of_vidur(path: Path, rows: list[Row], gpus: int, layers: int, context_tokens: float) -> MeasuredCosts:
    rows = _some(path, _split(path, rows, gpus), rows, gpus, VIDUR[1])
    operations = [name for name in rows[0] if name.endswith(".median") and not name.startswith(ONCE_A_STEP)]
    if not operations:
        raise ValueError(f"{path}: no column time_stats.*.median: the profile of no operation")
    layer: defaultdict[int, list[float]] = defaultdict(list)
    for row in rows:
        done = sum(_seconds(path, row, name) for name in operations if row[name])
        layer[_whole(path, row, "num_tokens")].append(done)
    by_tokens = {tokens: median(found) for tokens, found in layer.items()}
    prefill, decode = _vidur_attention(path.with_name("attention.csv"), gpus, context_tokens)
    return MeasuredCosts(
        *(
            _rising((tokens, layers * (by_tokens[tokens] + _at(attention, tokens))) for tokens in sorted(by_tokens))
            for attention in (prefill, decode)
        )
    )


def _vidur_attention(path: Path, gpus: int, context_tokens: float) -> tuple[Table, Table]:
    """Attention of one layer: of a prompt that starts empty, by its tokens; of a step at a context, by its batch."""
    rows = _rows(path)
    if missing := [name for name in VIDUR_ATTENTION if name not in rows[0]]:
        raise ValueError(f"{path}: no column {missing[0]}: expected Vidur's attention.csv")
    rows = _some(path, _split(path, rows, gpus), rows, gpus, VIDUR[1])
    prefill: defaultdict[int, list[float]] = defaultdict(list)
    decode: defaultdict[int, dict[int, float]] = defaultdict(dict)
    for row in rows:
        cached = _whole(path, row, "kv_cache_size")
        if row["is_prefill"].strip().lower() == "true":
            if cached == 0 and row.get("time_stats.attn_prefill.median"):
                tokens = _whole(path, row, "prefill_chunk_size")
                prefill[tokens].append(_seconds(path, row, "time_stats.attn_prefill.median"))
        elif row.get("time_stats.attn_decode.median"):
            decode[_whole(path, row, "batch_size")][cached] = _seconds(path, row, "time_stats.attn_decode.median")
    if not prefill or not decode:
        raise ValueError(f"{path}: no prefill from an empty cache, or no decode: both are needed")
    steps = {batch: [_at(tuple(sorted(by.items())), context_tokens)] for batch, by in decode.items()}
    return _table(prefill, median), _table(steps, median)


def _split(path: Path, rows: list[Row], gpus: int) -> list[Row]:
    return [row for row in rows if _whole(path, row, VIDUR[1]) == gpus]


def _some(path: Path, found: list[Row], rows: list[Row], gpus: int, column: str) -> list[Row]:
    if found:
        return found
    there = sorted({row.get(column) or row.get("tp", "?") for row in rows})
    raise ValueError(
        f"{path}: no row for {gpus} GPUs an instance, {column} is {', '.join(there[:8])}: set fabric.gpus_per_instance"
    )


def _table(found: Mapping[int, list[float]], of: Callable[[list[float]], float]) -> Table:
    return _rising((size, float(of(seconds))) for size, seconds in sorted(found.items()))


def _rising(points: Iterable[tuple[int, float]]) -> Table:
    return tuple(accumulate(points, lambda before, point: (point[0], max(before[1], point[1]))))


def _at(table: Table, at: float) -> float:
    """The value of a table at a place: linear between its points, its first value before, its last slope beyond."""
    if at <= table[0][0]:
        return table[0][1]
    y0, slope, x0 = table[0][1], 0.0, table[0][0]
    for (x0, y0), (x1, y1) in pairwise(table):
        slope = (y1 - y0) / (x1 - x0)
        if at <= x1:
            break
    return y0 + (at - x0) * slope


def _whole(path: Path, row: Row, column: str, default: int | None = None) -> int:
    text = row.get(column)
    if not text and default is not None:
        return default
    number = _number(path, row, column)
    if number != int(number) or number < 0:
        raise ValueError(f"{path}: line {row[LINE]}: {column} {text!r}: a whole number was expected")
    return int(number)


def _seconds(path: Path, row: Row, column: str) -> float:
    return _number(path, row, column) / 1e3


def _number(path: Path, row: Row, column: str) -> float:
    try:
        number = float(row[column])
    except (KeyError, TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"{path}: line {row[LINE]}: {column} {row.get(column)!r}: a number was expected")
    return number


LINE = ""
"""The key under which a row has the number of its line."""


def _rows(path: Path) -> list[Row]:
    try:
        if not path.is_file():
            raise ValueError(f"{path}: no such file: a table of measured costs was expected")
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path}: larger than {MOST_BYTES >> 20} MiB: a table of measured costs was expected")
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_numbered(path, csv.DictReader(file)))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise ValueError(f"{path}: cannot be read as CSV: {problem}") from None
    if not rows:
        raise ValueError(f"{path}: no rows below a line of column names")
    return rows


def _numbered(path: Path, reader: csv.DictReader[str]) -> Iterator[Row]:
    for number, row in enumerate(reader, start=2):
        if number > MOST_ROWS:
            raise ValueError(f"{path}: more than {MOST_ROWS:,} rows")
        yield {**{name: value or "" for name, value in row.items() if isinstance(name, str)}, LINE: str(number)}
