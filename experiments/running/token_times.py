"""When the tokens of a run came: from the measured gaps of an emulated run, or the requests of an analytic one.

A run folder holds the first and last token of each request. Of an analytic run that is enough: its decode instances
work in steps whose length depends on the size of the batch alone, and its requests say who was in which batch when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.running.columns import Table

Gaps = Mapping[int, Sequence[float]]
"""The gaps between two tokens of each request, by its number, milliseconds."""


class TokenTimes(NamedTuple):
    """Instants at which tokens came, seconds from t = 0, and how many came at each."""

    at_s: NDArray[np.float64]
    tokens: NDArray[np.int64]


class _Batch(NamedTuple):
    """One decode instance between changes of its batch: n boundaries and the n - 1 stretches between them.

    changed_s: instants at which a request joined or left, seconds, rising. steps, step_s: how many steps each stretch
    has and how long they last, seconds. tokens: tokens of completed requests that a step of it gives. Two instants
    nearer than tolerance_s, half the shortest step, are one that was worked out on two ways.
    """

    changed_s: NDArray[np.float64]
    steps: NDArray[np.int64]
    step_s: NDArray[np.float64]
    tokens: NDArray[np.int64]
    tolerance_s: float


def times_of_gaps(requests: Table, gaps_ms: Gaps) -> TokenTimes:
    """When the tokens of completed requests came, from the gaps between them."""
    first_s = _seconds(requests, "timestamp_s", 1.0) + _seconds(requests, "ttft_ms", 1e-3)
    numbers = np.asarray(requests["request_id"]).tolist()
    each = [
        start_s + np.cumsum([0.0, *gaps_ms[number]]) * 1e-3
        for number, start_s, done in zip(numbers, first_s, _completed(requests), strict=True)
        if done and number in gaps_ms
    ]
    at_s = np.concatenate(each) if each else np.empty(0)
    return TokenTimes(at_s, np.ones(len(at_s), np.int64))


def simulated_times(requests: Table, step_s: Callable[[int], float]) -> TokenTimes:
    """When the tokens of completed requests of an analytic run came. `step_s` as in `simulated_gaps`."""
    at_s: list[NDArray[np.float64]] = [np.empty(0)]
    tokens: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for batch, _ in _batches(requests, step_s):
        before = np.repeat(np.cumsum(batch.steps) - batch.steps, batch.steps)
        ordinal = np.arange(1, len(before) + 1) - before
        at_s.append(np.repeat(batch.changed_s[:-1], batch.steps) + ordinal * np.repeat(batch.step_s, batch.steps))
        tokens.append(np.repeat(batch.tokens, batch.steps))
    return TokenTimes(np.concatenate(at_s), np.concatenate(tokens))


def simulated_gaps(requests: Table, step_s: Callable[[int], float]) -> dict[int, list[float]]:
    """The gaps between the tokens of each completed request of an analytic run, milliseconds.

    `step_s(running)`: the length of a decode step with so many running requests, seconds.
    """
    gaps: dict[int, list[float]] = {}
    for batch, members in _batches(requests, step_s):
        for number, first, last in members:
            steps_ms = np.repeat(batch.step_s[first:last], batch.steps[first:last]) * 1e3
            gaps[number] = steps_ms[1:].tolist()  # the first step gives the first token
    return gaps


def _batches(requests: Table, step_s: Callable[[int], float]) -> list[tuple[_Batch, list[tuple[int, int, int]]]]:
    """The batch of each decode instance, and its completed requests: number, first stretch, stretch after the last."""
    joined_s = _seconds(requests, "timestamp_s", 1.0) + sum(
        _seconds(requests, f"{part}_ms", 1e-3) for part in ("queue", "prefill", "kv_transfer", "admission")
    )
    left_s = _seconds(requests, "timestamp_s", 1.0) + _seconds(requests, "e2el_ms", 1e-3)
    done = _completed(requests)
    left_s[~done] = np.inf  # a run that its policy ended: still in the batch then
    decode_id, number = np.asarray(requests["decode_id"]), np.asarray(requests["request_id"])
    found = []
    for instance in np.unique(decode_id[np.isfinite(joined_s)]):
        here = (decode_id == instance) & np.isfinite(joined_s)
        batch = _batch(joined_s[here], left_s[here], step_s)
        first = np.searchsorted(batch.changed_s - batch.tolerance_s, joined_s[here & done], "right") - 1
        last = np.searchsorted(batch.changed_s - batch.tolerance_s, left_s[here & done], "right") - 1
        found.append((batch, list(zip(number[here & done].tolist(), first.tolist(), last.tolist(), strict=True))))
    return found


def _batch(joined_s: NDArray[np.float64], left_s: NDArray[np.float64], step_s: Callable[[int], float]) -> _Batch:
    done = np.isfinite(left_s)
    events_s = np.sort(np.concatenate([joined_s, left_s[done]]))
    most = max(int(_inside(joined_s, left_s, events_s).max()), 1)
    lengths_s = np.array([step_s(size) for size in range(1, most + 1)])
    tolerance_s = lengths_s.min() / 2
    changed_s = events_s[np.diff(events_s, prepend=-np.inf) > tolerance_s]
    after_s = changed_s[:-1] + tolerance_s
    running = _inside(joined_s, left_s, after_s).clip(0)
    stretch_step_s = np.append(lengths_s, np.inf)[running - 1]  # nobody runs: not a single step
    steps = np.rint(np.diff(changed_s) / stretch_step_s).astype(np.int64)
    return _Batch(changed_s, steps, stretch_step_s, _inside(joined_s[done], left_s[done], after_s), tolerance_s)


def _inside(joined_s: NDArray[np.float64], left_s: NDArray[np.float64], at_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many have joined and not left at each instant."""
    return np.searchsorted(np.sort(joined_s), at_s, "right") - np.searchsorted(np.sort(left_s), at_s, "right")


def _completed(requests: Table) -> NDArray[np.bool_]:
    done: NDArray[np.bool_] = np.asarray(requests["status"], dtype=object) == "completed"
    return done


def _seconds(requests: Table, column: str, unit_s: float) -> NDArray[np.float64]:
    return np.array(requests[column], dtype=float) * unit_s
