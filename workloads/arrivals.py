"""Arrival modes: from the time stamps of a trace to arrival times."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from workloads.request import Request, WorkloadError
from workloads.sessions import turns_before

ARRIVALS = ("raw", "jitter", "poisson")

Floats = NDArray[np.float64]

COARSEST_S = 60.0
"""Requests of the same minute are bursts of their own, not the grain of a clock."""
FEWEST_TICKS = 3
FEWEST_A_TICK = 2.0
"""Mean requests a tick of a grid: fewer lie apart already. Mooncake's traces have about ten every 3 s."""
COMMON_GAPS = 5
"""Gaps between ticks that are tried as the step, the most common ones: some ticks may be empty."""
OFF_GRID_S = 0.006
"""Gaps of Mooncake's conversation trace are off its grid of 3 s by so much, each stamp by up to 3 ms."""
OFF_GRID_SHARE = 0.004
"""The same of a finer grid, as a share of its step."""


def arrange(
    requests: Sequence[Request],
    mode: str,
    speedup: float,
    rng: np.random.Generator,
    rate_rps: float | None = None,
    grid_s: float | None = None,
    service_s: Callable[[Request], float] = lambda _: 0.0,
) -> list[Request]:
    """Requests renumbered from 0 in order of arrival, the first at 0 s, times divided by `speedup`.

    `raw` keeps the stamps (an artificial incast where they lie on a coarse grid), `jitter` adds to each a uniform time
    within the grid, so none where there is no grid, and keeps requests that share blocks in their order; `poisson`
    draws independent gaps of the same mean rate (or of `rate_rps`, requests/s) and keeps only the order. `grid_s`: the
    step of the grid, seconds, 0 for none; None looks for it in these stamps. All this is of requests that arrive by
    themselves: a turn that waits for the one before has the forecast of its end, `service_s` after it came, and its
    delay, divided by `speedup` too. WorkloadError for another mode.
    """
    if mode not in ARRIVALS:
        raise WorkloadError(f"arrivals: {mode!r} is not one of {', '.join(ARRIVALS)}")
    before = turns_before(requests)
    opening = [k for k, turn in enumerate(before) if turn is None]
    opening.sort(key=lambda k: requests[k].timestamp_s)  # a turn cut off from its session has a later time than place
    stamps_s = np.array([requests[k].timestamp_s for k in opening])
    if mode == "jitter":
        step_s = grid_of(stamps_s.tolist()) if grid_s is None else grid_s
        if step_s > 0:
            stamps_s = _in_order([requests[k] for k in opening], stamps_s, rng.uniform(0, step_s, len(stamps_s)))
    elif mode == "poisson":
        span_s = stamps_s[-1] - stamps_s[0]
        mean_gap_s = 1 / rate_rps if rate_rps else span_s / max(len(stamps_s) - 1, 1)
        stamps_s = np.cumsum(rng.exponential(mean_gap_s, len(stamps_s))) if mean_gap_s > 0 else stamps_s
    arrival_s = np.zeros(len(requests))
    arrival_s[opening] = (stamps_s - stamps_s.min()) / speedup
    delay_s: list[float | None] = [None] * len(requests)
    for k, turn in enumerate(before):
        if turn is not None:
            delay_s[k] = wait_s = (requests[k].delay_s or 0.0) / speedup
            arrival_s[k] = arrival_s[turn] + service_s(requests[turn]) + wait_s
    order = np.argsort(arrival_s, kind="stable").tolist()
    return [
        replace(requests[k], request_id=request_id, timestamp_s=float(arrival_s[k]), delay_s=delay_s[k])
        for request_id, k in enumerate(order)
    ]


def grid_of(stamps_s: Sequence[float]) -> float:
    """The step of the grid that rising stamps lie on, several on each of its ticks, seconds; 0 where there is none."""
    ticks_s = np.unique(np.round(stamps_s, 6))
    if len(ticks_s) < FEWEST_TICKS:
        return 0.0
    gaps_ms = np.diff(ticks_s) * 1e3
    coarse_ms = gaps_ms[gaps_ms > OFF_GRID_S * 2e3]
    common = Counter(np.round(coarse_ms if len(coarse_ms) else gaps_ms, 3).tolist()).most_common(COMMON_GAPS)
    return next((gap_ms / 1e3 for gap_ms, _ in common if _is_grid(ticks_s, gap_ms / 1e3, len(stamps_s))), 0.0)


def _is_grid(ticks_s: Floats, step_s: float, stamps: int) -> bool:
    """Whether distinct stamps lie on a grid of this step that holds enough of them a tick."""
    if not 0 < step_s <= COARSEST_S:
        return False
    number = np.round((ticks_s - ticks_s[0]) / step_s)
    # A step that is a little off adds up over a long trace, so each gap is held against it.
    off_s = np.abs(np.diff(ticks_s) - np.diff(number) * step_s)
    ticks = len(np.unique(number))
    return (
        bool((off_s <= min(OFF_GRID_S, OFF_GRID_SHARE * step_s)).all())
        and ticks >= FEWEST_TICKS
        and stamps >= FEWEST_A_TICK * ticks
    )


def _in_order(requests: Sequence[Request], stamps_s: Floats, added_s: Floats) -> Floats:
    """Stamps and what is added to them, exchanged among the requests of a stamp: none comes before the one that it
    shares blocks with."""
    parents = _parents(requests)
    members: dict[float, list[int]] = {}
    for k, stamp_s in enumerate(stamps_s.tolist()):
        members.setdefault(stamp_s, []).append(k)
    arrival_s = stamps_s + added_s
    for together in members.values():
        inside = set(together)
        if any(parents[k] in inside for k in together):
            arrival_s[_placed(together, parents, arrival_s)] = np.sort(arrival_s[together])
    for k, parent in enumerate(parents):
        if parent is not None:
            arrival_s[k] = max(arrival_s[k], arrival_s[parent])
    return arrival_s


def _placed(together: list[int], parents: list[int | None], arrival_s: Floats) -> list[int]:
    """The requests by their times, each after the one that it depends on."""
    children: dict[int | None, list[int]] = {}
    inside = set(together)
    for k in together:
        children.setdefault(parents[k] if parents[k] in inside else None, []).append(k)
    ready = [(arrival_s[k], k) for k in children.get(None, [])]
    heapq.heapify(ready)
    placed = []
    while ready:
        _, k = heapq.heappop(ready)
        placed.append(k)
        for child in children.get(k, []):
            heapq.heappush(ready, (arrival_s[child], child))
    return placed


def _parents(requests: Sequence[Request]) -> list[int | None]:
    """The request that each depends on: the first one with the last block that it shares with any before it."""
    first_with: dict[int, int] = {}
    parents: list[int | None] = []
    for k, request in enumerate(requests):
        ids = request.block_ids
        shared = 0
        while shared < len(ids) and ids[shared] in first_with:
            shared += 1
        parents.append(first_with[ids[shared - 1]] if shared else None)
        for block in ids[shared:]:
            first_with[block] = k
    return parents
