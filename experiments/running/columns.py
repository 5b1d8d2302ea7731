"""Tables as parquet files, made from plain Python values without pandas, whose import takes longer than a short run.

A column read back by pandas has the type that `pandas.DataFrame` would have given it: whole numbers int64, other
numbers float64 with a missing value for NaN, text str.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from pyarrow import parquet

Columns = Mapping[str, Sequence[Any]]
"""The columns of a table by name, all of the same length."""


class Table(Protocol):
    """Columns of a table by name, for those who read them: a mapping of sequences, or a pandas DataFrame."""

    def __getitem__(self, name: str, /) -> Any: ...


def columns_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str] = ()) -> dict[str, list[Any]]:
    """The columns of rows, in the order in which the rows first name them; what a row lacks is None.

    `names`: the columns of a table without rows.
    """
    found = dict.fromkeys(name for row in rows for name in row) if rows else dict.fromkeys(names)
    return {name: [row.get(name) for row in rows] for name in found}


def parquet_bytes(columns: Columns) -> bytes:
    """A parquet file of these columns, compressed as pandas does (Snappy)."""
    arrays = [_array(values) for values in columns.values()]
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_arrays(arrays, names=list(columns)), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _array(values: Sequence[Any]) -> pa.Array:
    """From the buffers of Arrow's columnar format (https://arrow.apache.org/docs/format/Columnar.html).

    `pyarrow.array` imports pandas to ask whether it was given one of its objects. It is left to deal with what is
    neither all numbers nor all text.
    """
    kinds = {type(value) for value in values}
    if kinds and kinds <= {int, np.int64}:
        return _primitive(pa.int64(), np.array(values, np.int64))
    if kinds and kinds <= {int, np.int64, float, np.float64}:
        return _primitive(pa.float64(), np.array(values, np.float64))
    if kinds == {str}:
        return _text(values)
    return pa.array(values, from_pandas=True)


def _primitive(kind: pa.DataType, values: np.ndarray[Any, Any]) -> pa.Array:
    known = values == values  # not NaN
    valid = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(values)])


def _text(values: Sequence[str]) -> pa.Array:
    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return pa.Array.from_buffers(
        pa.large_string(), len(values), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    )
