"""A trace as requests: read once, in order of time, in bounded memory, with what was decided or looks wrong."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from workloads.arrivals import grid_of
from workloads.disk_sort import sorted_on_disk
from workloads.json_records import EPOCH
from workloads.prefix_chains import PrefixChains
from workloads.request import Request, WorkloadError
from workloads.trace_file import TraceFile
from workloads.trace_formats import MOONCAKE, VLLM_RESULT, Record
from workloads.trace_records import Records
from workloads.trace_survey import NAMES, block_tokens_of, clock_of

WINDOW = 1000
"""Records that are looked at before the first request is given out, and within which they are sorted."""

MOST_HELD_IDS = 4_000_000
"""Ids of blocks in the window, some 150 MB: where prompts are so long that they exceed it, it holds fewer records."""


@dataclass
class _Tally:
    """How often something was seen, and the line where first."""

    count: int = 0
    line: int = 0
    what: str = ""

    def add(self, line: int, what: str = "") -> None:
        if not self.count:
            self.line, self.what = line, what
        self.count += 1


class Trace:
    """A trace that is open; a context manager, and iterable once.

    `time_unit` and `block_tokens` override what the file's format and first records say. Its requests have
    `timestamp_s` as the file says, seconds (from the first one where stamps are dates), and ids that keep what
    contradicts apart (`PrefixChains`). A turn of a session that waits for the one before it has the earliest time that
    it could come at. Lines out of order are sorted within a window; with `sort_all` however far they
    are, on disk. WorkloadError names file, line and field.
    """

    def __init__(
        self,
        path: Path,
        *,
        time_unit: str | None = None,
        block_tokens: int | None = None,
        chains: PrefixChains | None = None,
        sort_all: bool = False,
    ) -> None:
        self.path = path
        self.requests = 0
        """Given out so far."""
        self.input_tokens = 0
        self.hit_tokens = 0
        """Of the prompts so far, tokens that earlier prompts began with: the hits of an endless cache."""
        self._chains = chains if chains is not None else PrefixChains()
        self._file = TraceFile(path)
        try:
            self._records = Records(self._file)
            source = self._watched()
            self._source = sorted_on_disk(source) if sort_all else source
            self._failure: WorkloadError | None = None
            self._window: list[tuple[float, int, Record]] = []
            self._read = self._held_ids = 0
            self._unordered, self._idless, self._few, self._conflicts, self._waiting = (_Tally() for _ in range(5))
            self._turn_s: dict[str, float] = {}
            self._fill()
            if not self._window:
                raise self._failure or WorkloadError(f"{path}: the trace is empty")
            head = [record for _, _, record in sorted(self._window)]
            stamped = [record for record in head if record.delay_ms is None]
            self.format = self._records.format
            self.clock = clock_of(stamped, self.format, time_unit or self._records.stated_unit)
            stated = block_tokens or self._records.stated_block_tokens
            self.block_tokens, self._block_note = (stated, "") if stated else block_tokens_of(head, self.format)
            self.grid_s = grid_of([self.clock.seconds(record.stamp) for record in stamped])
        except BaseException:
            self._file.__exit__(None, None, None)
            raise

    def __enter__(self) -> Trace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, problem, trace)

    def __iter__(self) -> Iterator[Request]:
        last = -1.0
        while self._window:
            stamp, _, record = heapq.heappop(self._window)
            self._held_ids -= len(record.block_ids or ())
            if stamp < last:
                shown = self._shown(repr(record.stamp))
                raise WorkloadError(
                    f"{self.path}:{record.line}: timestamp: {shown} is before more than {WINDOW} lines above it:"
                    " `netkv trace convert FILE OUT` sorts a trace"
                )
            last = stamp
            yield self._request(record)
            self._fill()
        if self._failure is not None:
            raise self._failure

    @property
    def compression(self) -> str:
        """`gzip`, `zstd`, or nothing."""
        return self._file.compression

    def notes(self) -> list[str]:
        """As which format it is read, where that is not Mooncake's, and its `warnings`."""
        if self.format is MOONCAKE:
            return self.warnings()
        unit = "dates" if self.format.dated else f"stamps in {NAMES[self.clock.unit]}"
        return [f"{self.path}: read as {self.format.title}, {unit}", *self.warnings()]

    def warnings(self) -> list[str]:
        """What was decided about the requests so far, and what looks wrong with them: a line each, with its place."""
        said = [(0, note) for note in (self.clock.note, self._block_note) if note]
        if self._unordered.count:
            many = _such(self._unordered.count, "line")
            how = f"timestamp: {self._shown(self._unordered.what)} is before the line above it: sorted ({many})"
            said.append((self._unordered.line, how))
        if self._idless.count:
            said.append((0, f"no hash_ids in {self._idless.count} of {self.requests} requests: these share nothing"))
        if self._few.count:
            many = _such(self._few.count, "request")
            said.append((self._few.line, f"hash_ids: {self._few.what}: the rest of it shares nothing ({many})"))
        if self._conflicts.count:
            many = _such(self._conflicts.count, "request")
            said.append((self._conflicts.line, f"hash_ids: {self._conflicts.what}: not shared from there on ({many})"))
        if self._waiting.count:
            many = f"{self._waiting.count} of {self.requests} requests"
            said.append((self._waiting.line, f"delay: {many} are turns that wait for the answer to the one before"))
        if self._records.left_out:
            said.append((0, f"without a prompt or an answer, left out: {_such(self._records.left_out, 'row')}"))
        return [f"{self.path}:{line}: {text}" if line else f"{self.path}: {text}" for line, text in said]

    def _shown(self, stamp: str) -> str:
        """A stamp as the file has it."""
        try:
            return str(EPOCH + timedelta(microseconds=int(stamp))) if self.format.dated else stamp
        except OverflowError:  # the last hours of the year 9999 in another time zone
            return stamp

    def _watched(self) -> Iterator[Record]:
        last = -1.0
        for record in self._records:
            if record.stamp < last:
                self._unordered.add(record.line, repr(record.stamp))
            last = record.stamp
            yield record

    def _fill(self) -> None:
        """Read until the window is full; a line that cannot be read matters once the ones before it are given out."""
        while self._failure is None and len(self._window) < WINDOW and self._held_ids < MOST_HELD_IDS:
            try:
                record = next(self._source, None)
            except WorkloadError as problem:
                self._failure = problem
                return
            if record is None:
                return
            self._read += 1
            self._held_ids += len(record.block_ids or ())
            heapq.heappush(self._window, (record.stamp, self._read, record))

    def _request(self, record: Record) -> Request:
        ids: tuple[int, ...] = ()
        if record.block_ids is None:
            self._idless.add(record.line)
        else:
            self._check_count(record, len(record.block_ids))
            found = self._chains.follow(record.block_ids, record.input_length, self.block_tokens)
            ids = found.ids
            self.hit_tokens += found.hit_tokens
            if found.conflict:
                self._conflicts.add(record.line, found.conflict)
        self.requests += 1
        self.input_tokens += record.input_length
        at_s, delay_s = self.clock.seconds(record.stamp), None
        if record.delay_ms is not None:
            self._waiting.add(record.line)
            delay_s = record.delay_ms / 1e3
            at_s = max(at_s, self._turn_s[record.session] + delay_s)
        if record.session:
            self._turn_s[record.session] = at_s
        return Request(
            self.requests - 1,
            at_s,
            record.input_length,
            record.output_length,
            ids,
            self.block_tokens,
            record.session,
            delay_s,
        )

    def _check_count(self, record: Record, count: int) -> None:
        most = -(-record.input_length // self.block_tokens)
        if count > most:
            raise WorkloadError(
                f"{self.path}:{record.line}: hash_ids: {count} ids for {record.input_length} tokens, which have {most}"
                f" at {self.block_tokens} tokens a block: set workload.block_tokens if blocks are smaller"
            )
        if count < record.input_length // self.block_tokens:
            self._few.add(record.line, f"{count} ids for {record.input_length} tokens, {most} were expected")


def _such(count: int, what: str) -> str:
    return f"{count} such {what}" if count == 1 else f"{count} such {what}s"


def read_trace(
    path: Path,
    *,
    first: int = 0,
    limit: int | None = None,
    time_unit: str | None = None,
    block_tokens: int | None = None,
) -> list[Request]:
    """Read the requests `first` to `first + limit` of a trace; their `timestamp_s` is the file's stamp, in seconds.

    limit: None reads to the end. Every line up to the last one needed is checked. WorkloadError as `Trace`.
    """
    requests: list[Request] = []
    with Trace(path, time_unit=time_unit, block_tokens=block_tokens) as trace:
        for request in trace:
            requests.append(request)
            if limit is not None and len(requests) >= first + limit:
                break
    if len(requests) <= first:
        raise WorkloadError(f"{path}: holds {len(requests)} requests, so there is none from number {first} on")
    return requests[first:]


def count_requests(path: Path, most: int) -> int:
    """How many requests a trace holds, or `most` where it holds more; lines are counted, not understood."""
    with TraceFile(path) as file:
        records = Records(file)
        if file.parquet or file.start == "[" or records.format is VLLM_RESULT:
            return sum(1 for _ in zip(range(most), records, strict=False))
        first = int(file.start == "{")  # which `Records` has read, as it has a table's header
        others = (line for line in file.lines() if line.strip())
        return first + sum(1 for _ in zip(range(most - first), others, strict=False))
