"""The timer probe: a process of ordinary priority in a host's namespace that sleeps, and notes how late it wakes.

    python -m workers.timer_probe       # until SIGTERM; then one JSON line with `sleeps`, `lag_p50_ms` and `lag_p99_ms`

What it suffers, background workers and the kernel's own threads suffer too; prefill and decode workers have real-time
priority. Standard library only, so that it starts at once.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter

PERIOD_S = 0.01
BIN_S = 1e-5
"""Lags are counted to this, so that hours of them need no more memory than minutes."""


def summary(bins: Counter[int]) -> dict[str, float]:
    """Count, median and 99th percentile of lags, given how many lags are in each bin of `BIN_S`."""
    sleeps = bins.total()
    return {"sleeps": sleeps, "lag_p50_ms": _quantile_ms(bins, 0.5), "lag_p99_ms": _quantile_ms(bins, 0.99)}


def _quantile_ms(bins: Counter[int], share: float) -> float:
    left = int(share * (bins.total() - 1))
    for at in sorted(bins):
        left -= bins[at]
        if left < 0:
            return round(at * BIN_S * 1e3, 2)
    return 0.0


def main() -> None:
    bins: Counter[int] = Counter()

    def end(*_: object) -> None:
        print(json.dumps(summary(bins)), flush=True)
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        due_s = time.monotonic() + PERIOD_S
        time.sleep(PERIOD_S)
        bins[round((time.monotonic() - due_s) / BIN_S)] += 1


if __name__ == "__main__":
    main()
