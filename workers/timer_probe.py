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

PERIOD_S = 0.01


def summary(lag_s: list[float]) -> dict[str, float]:
    """Count, median and 99th percentile of lags."""
    in_order = sorted(lag_s) or [0.0]
    p50, p99 = (in_order[int(share * (len(in_order) - 1))] for share in (0.5, 0.99))
    return {"sleeps": len(lag_s), "lag_p50_ms": p50 * 1e3, "lag_p99_ms": p99 * 1e3}


def main() -> None:
    lag_s: list[float] = []

    def end(*_: object) -> None:
        print(json.dumps(summary(lag_s)), flush=True)
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        due_s = time.monotonic() + PERIOD_S
        time.sleep(PERIOD_S)
        lag_s.append(time.monotonic() - due_s)


if __name__ == "__main__":
    main()
