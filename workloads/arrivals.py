"""Arrival modes: from the time stamps of a trace to arrival times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from workloads.request import Request, WorkloadError

GRID_S = 3.0
"""The Mooncake conversation trace stamps its requests on a 3,000 ms grid, about ten of them a tick."""

ARRIVALS = ("raw", "jitter", "poisson")


def arrange(
    requests: Sequence[Request], mode: str, speedup: float, rng: np.random.Generator, rate_rps: float | None = None
) -> list[Request]:
    """Requests renumbered from 0 in order of arrival, the first at 0 s, times divided by `speedup`.

    `raw` keeps the stamps (an artificial incast on Mooncake's grid), `jitter` adds to each a uniform time of 0 to 3 s,
    `poisson` draws independent gaps of the same mean rate (or of `rate_rps`, requests/s) and keeps only the order.
    WorkloadError for another mode.
    """
    if mode not in ARRIVALS:
        raise WorkloadError(f"arrivals: {mode!r} is not one of {', '.join(ARRIVALS)}")
    stamps_s = np.array([request.timestamp_s for request in requests])
    if mode == "jitter":
        stamps_s = stamps_s + rng.uniform(0, GRID_S, len(stamps_s))
    elif mode == "poisson":
        span_s = stamps_s[-1] - stamps_s[0]
        mean_gap_s = 1 / rate_rps if rate_rps else span_s / max(len(stamps_s) - 1, 1)
        stamps_s = np.cumsum(rng.exponential(mean_gap_s, len(stamps_s))) if mean_gap_s > 0 else stamps_s
    order = np.argsort(stamps_s, kind="stable")
    arrival_s = (stamps_s[order] - stamps_s[order[0]]) / speedup
    return [
        replace(requests[source], request_id=request_id, timestamp_s=float(at_s))
        for request_id, (source, at_s) in enumerate(zip(order.tolist(), arrival_s, strict=True))
    ]
