"""The bytes of a trace: a file or a pipe, plain, gzip or zstd, as numbered lines of UTF-8 text; or Parquet rows.

What is no trace at all (a Git-LFS pointer, a web page, UTF-16) is named here; what the lines mean is `trace_records`'.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

from workloads.request import WorkloadError
from workloads.timely_file import open_in_time

GZIP_MAGIC = b"\x1f\x8b"
PARQUET_MAGIC = b"PAR1"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
BOM = b"\xef\xbb\xbf"
NAMES_OF_COMPRESSION = {".gz": "gzip", ".zst": "zstd"}

LONGEST_LINE_BYTES = 1 << 23
"""A line beyond 8 MiB is not one request: a prompt of 10 million tokens in blocks of 16 takes 6 MB. As lists in memory
a line takes up to twenty times its length."""
MOST_BLANK_LINES = 1_000_000
"""In a row. A small compressed file can hold thousands of millions of them."""

HEAD_BYTES = 512
PIECE_BYTES = 1 << 16
PARQUET_ROWS = 1000
"""Rows that are made Python's at a time."""
MOST_GROUP_ROWS = 4_000_000
MOST_GROUP_BYTES = 1 << 30
"""Of a row group, which Arrow may decode at once; a small file can claim thousands of millions of rows."""

FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git-LFS pointer, not the trace: `git lfs pull` in its repository fetches it"),
    (b"<", "a web page (HTML or XML), not a trace: download the raw file, not the page that shows it"),
    (b"404:", "a web server's answer (404), not a trace: its address was wrong; download it again"),
    (b"404 not found", "a web server's answer (404), not a trace: its address was wrong; download it again"),
    (b"not found", "a web server's answer (not found), not a trace: its address was wrong; download it again"),
    (b"bzh", "compressed by bzip2: `bzip2 -d` it first"),
    (b"\xfd7zxz", "compressed by xz: `xz -d` it first"),
    (b"pk\x03\x04", "a ZIP archive: `unzip` it first"),
)
"""First bytes, in lower case, of files that are taken for traces, and what to do about each."""


class TraceFile:
    """A trace that is open. Read once from its start to its end, so that a pipe will do; a context manager.

    `compression` is "", "gzip" or "zstd", by the content and not by the name; `parquet`: whether it has rows instead of
    lines. WorkloadError for whatever cannot be opened or is no text.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        """Of the line that was read last, from 1 on."""
        self._raw = open_in_time(path)
        try:
            self.compression, self._content = self._opened()
            head = self._guarded(lambda: self._content.peek(HEAD_BYTES))[:HEAD_BYTES]
            if head.startswith(BOM):
                self._content.read(len(BOM))
                head = head[len(BOM) :]
            self.parquet = head.startswith(PARQUET_MAGIC)
            self._refuse_foreign(head)
            self.start = head.lstrip()[:1].decode("latin-1")
        except BaseException:
            self._raw.close()
            raise

    def __enter__(self) -> TraceFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._raw.close()

    def lines(self) -> Iterator[str]:
        """The lines with their ends; `number` counts them. WorkloadError for one that is no text or too long."""
        blank = 0
        while line := self._guarded(lambda: self._content.readline(LONGEST_LINE_BYTES + 1)):
            self.number += 1
            blank = 0 if line.strip() else blank + 1
            if blank > MOST_BLANK_LINES:
                raise WorkloadError(
                    f"{self.path}:{self.number}: {MOST_BLANK_LINES:,} blank lines in a row: one request a line was"
                    " expected"
                )
            if len(line) > LONGEST_LINE_BYTES:
                raise WorkloadError(
                    f"{self.path}:{self.number}: a line of more than {LONGEST_LINE_BYTES >> 20} MiB: one request a line"
                    " was expected"
                )
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError:
                raise WorkloadError(f"{self.path}:{self.number}: not UTF-8 text") from None

    def pieces(self) -> Iterator[str]:
        """The text in pieces of any length, for a form that lines mean nothing to; `number` counts the lines begun."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        self.number = 1
        while piece := self._guarded(lambda: self._content.read(PIECE_BYTES)):
            try:
                text = decoder.decode(piece)
            except UnicodeDecodeError as problem:
                line = self.number + problem.object.count(b"\n", 0, problem.start)
                raise WorkloadError(f"{self.path}:{line}: not UTF-8 text") from None
            self.number += text.count("\n")
            yield text

    def parquet_rows(self) -> tuple[list[str], Iterator[dict[str, Any]]]:
        """The names of a Parquet file's columns, and its rows. WorkloadError for a pipe, which cannot be read so."""
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        if self._content is not self._raw or not self._raw.seekable():
            raise WorkloadError(f"{self.path}: a Parquet file is read from its end: name the file itself, not a pipe")
        try:
            table = ParquetFile(self._raw)
            names = list(table.schema_arrow.names)
        except (ArrowException, OSError, ValueError) as problem:  # ValueError: a name that is not UTF-8
            raise WorkloadError(f"{self.path}: broken Parquet file: {problem}") from None

        groups = [table.metadata.row_group(number) for number in range(table.metadata.num_row_groups)]
        if any(one.num_rows > MOST_GROUP_ROWS or one.total_byte_size > MOST_GROUP_BYTES for one in groups):
            raise WorkloadError(
                f"{self.path}: a row group of more than {MOST_GROUP_ROWS:,} rows or {MOST_GROUP_BYTES >> 30} GiB: write"
                " it with smaller ones"
            )

        def rows() -> Iterator[dict[str, Any]]:
            batches = table.iter_batches(PARQUET_ROWS)
            while True:
                try:
                    batch = next(batches, None)
                    of_batch = [] if batch is None else batch.to_pylist()
                except (ArrowException, OSError, ValueError) as problem:
                    raise WorkloadError(f"{self.path}: broken Parquet file: {problem}") from None
                if batch is None:
                    return
                yield from of_batch

        return names, rows()

    def _opened(self) -> tuple[str, io.BufferedReader]:
        magic = self._guarded(lambda: self._raw.peek(4))[:4]
        if magic.startswith(GZIP_MAGIC):
            return "gzip", cast(io.BufferedReader, gzip.GzipFile(fileobj=self._raw))
        if magic == ZSTD_MAGIC:
            from pyarrow import CompressedInputStream  # slow to load, and few traces need it

            return "zstd", io.BufferedReader(cast(Any, CompressedInputStream(cast(BinaryIO, self._raw), "zstd")))
        claimed = NAMES_OF_COMPRESSION.get(self.path.suffix)
        if claimed and magic:
            raise WorkloadError(f"{self.path}: not a {claimed} file, though its name ends in {self.path.suffix}")
        return "", self._raw

    def _guarded(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
            raise WorkloadError(f"{self.path}: broken gzip after line {self.number}: {problem}") from None
        except OSError as problem:
            if problem.strerror is None:  # pyarrow's
                raise WorkloadError(f"{self.path}: broken zstd after line {self.number}: {problem}") from None
            raise WorkloadError(f"{self.path}: {problem.strerror}") from None

    def _refuse_foreign(self, head: bytes) -> None:
        if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _every_second_is_zero(head[:4]):
            raise WorkloadError(
                f"{self.path}:1: UTF-16 text, UTF-8 was expected: `iconv -f UTF-16 -t UTF-8` converts it"
            )
        start = head.lstrip().lower()
        for magic, what in FOREIGN:
            if start.startswith(magic):
                raise WorkloadError(f"{self.path}:1: {what}")


def _every_second_is_zero(head: bytes) -> bool:
    """Whether these look like two letters of UTF-16."""
    zeros = [byte == 0 for byte in head]
    return zeros in ([True, False] * 2, [False, True] * 2)
