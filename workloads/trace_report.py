"""What a trace is: its format, units, rates, lengths and hits, and what looks wrong with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from workloads.prefix_chains import PrefixChains
from workloads.trace import Trace

REMEMBERED_BLOCKS = 2_000_000
"""Prefix blocks that are kept in memory, about 300 MB of them."""
BUSY_S = 10.0
"""Length of the interval whose rate is the peak, seconds."""
LONG_GAP = 100
"""A pause of so many mean gaps is worth a word."""
DIGITS = 4
"""Lengths are counted to so many digits: percentiles need no more, and the table stays small."""


@dataclass(frozen=True)
class TracePart:
    """The first requests of a trace, which a run replays unless told otherwise; units as in `TraceReport`."""

    requests: int
    span_s: float
    rate_rps: float | None
    mean_input: float
    mean_output: float
    hit_share: float


@dataclass(frozen=True)
class TraceReport:
    """A whole trace. Times in seconds, lengths in tokens, rates in requests/s (None where all stamps are one).

    `start_s`: the first stamp (0 for dates). `grid_s`: step of the grid that the stamps lie on, 0 for none.
    `peak_rps`: of the busiest 10 s, None for a shorter trace. `hit_share`: share of all prompt tokens, 0 to 1, that an
    endless cache would hold. `input_lengths`, `output_lengths`: min, p50, p90, p99 and max, the percentiles to four
    digits. `replayed`: the part that a run replays.
    """

    format: str
    compression: str
    requests: int
    start_s: float
    span_s: float
    time_unit: str
    grid_s: float
    rate_rps: float | None
    peak_rps: float | None
    block_tokens: int
    mean_input: float
    mean_output: float
    input_lengths: dict[str, int]
    output_lengths: dict[str, int]
    hit_share: float
    replayed: TracePart
    warnings: list[str]


def report_on_trace(
    path: Path, *, time_unit: str | None = None, block_tokens: int | None = None, replayed: int = 200
) -> TraceReport:
    """Read a whole trace, once and in bounded memory; a run replays `replayed` requests. WorkloadError as `Trace`."""
    chains = PrefixChains(REMEMBERED_BLOCKS)
    inputs, outputs = _Lengths(), _Lengths()
    longest_gap, busiest, in_interval, interval = (0.0, 0.0), 0, 0, -1
    start_s = last_s = part = None
    with Trace(path, time_unit=time_unit, block_tokens=block_tokens, chains=chains) as trace:
        for request in trace:
            at_s = request.timestamp_s
            start_s = at_s if start_s is None else start_s
            last_s = at_s if last_s is None else last_s
            longest_gap = max(longest_gap, (at_s - last_s, last_s))
            last_s = max(at_s, last_s)  # turns of a session are given out ahead of their time
            inputs.add(request.input_length)
            outputs.add(request.output_length)
            here = int((at_s - start_s) // BUSY_S)
            in_interval, interval = (in_interval + 1 if here == interval else 1), here
            busiest = max(busiest, in_interval)
            if trace.requests == replayed:
                part = _part(trace, last_s - start_s, inputs, outputs)
        assert start_s is not None
        assert last_s is not None
        span_s = last_s - start_s
        rate_rps = _rate_rps(trace.requests, span_s)
        warnings = trace.warnings()
        if rate_rps is None and trace.requests > 1:
            warnings.append(f"{path}: all requests have the same time stamp")
        elif rate_rps is not None:
            warnings += _oddities(path, start_s, rate_rps, longest_gap)
        if chains.forgot:
            warnings.append(f"{path}: more prefix blocks than are remembered: the hit share is at least that")
        return TraceReport(
            format=trace.format.name,
            compression=trace.compression,
            requests=trace.requests,
            start_s=start_s,
            span_s=span_s,
            time_unit="date" if trace.format.dated else trace.clock.unit,
            grid_s=trace.grid_s,
            rate_rps=rate_rps,
            peak_rps=busiest / BUSY_S if span_s >= BUSY_S else None,
            block_tokens=trace.block_tokens,
            mean_input=inputs.mean,
            mean_output=outputs.mean,
            input_lengths=inputs.spread(),
            output_lengths=outputs.spread(),
            hit_share=trace.hit_tokens / trace.input_tokens,
            replayed=part or _part(trace, span_s, inputs, outputs),
            warnings=warnings,
        )


def _part(trace: Trace, span_s: float, inputs: _Lengths, outputs: _Lengths) -> TracePart:
    """What has been read so far."""
    return TracePart(
        requests=trace.requests,
        span_s=span_s,
        rate_rps=_rate_rps(trace.requests, span_s),
        mean_input=inputs.mean,
        mean_output=outputs.mean,
        hit_share=trace.hit_tokens / trace.input_tokens,
    )


def _rate_rps(requests: int, span_s: float) -> float | None:
    return (requests - 1) / span_s if span_s > 0 else None


def _oddities(path: Path, start_s: float, rate_rps: float, longest_gap: tuple[float, float]) -> list[str]:
    found = []
    if start_s * rate_rps > LONG_GAP:
        found.append(f"{path}: begins at {start_s:,.0f} s; a run takes its first request as t = 0")
    gap_s, from_s = longest_gap
    if gap_s * rate_rps > LONG_GAP:
        found.append(f"{path}: no request for {gap_s:,.0f} s, from {from_s:,.0f} s on")
    return found


class _Lengths:
    """Lengths in tokens as they come by: their mean and percentiles."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._number = self._total = self._most = 0
        self._least: int | None = None

    def add(self, tokens: int) -> None:
        step = 10 ** max(len(str(tokens)) - DIGITS, 0)
        self._counts[round(tokens / step) * step] += 1
        self._number += 1
        self._total += tokens
        self._most = max(self._most, tokens)
        self._least = tokens if self._least is None else min(self._least, tokens)

    @property
    def mean(self) -> float:
        return self._total / self._number

    def spread(self) -> dict[str, int]:
        found, passed = {"min": self._least or 0}, 0
        left = [50, 90, 99]
        for tokens, count in sorted(self._counts.items()):
            passed += count
            while left and passed >= left[0] / 100 * self._number:
                found[f"p{left.pop(0)}"] = min(tokens, self._most)
        return {**found, "max": self._most}
