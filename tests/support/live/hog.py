"""A process that takes one processor from everybody, real-time workers too, for most of every tenth of a second.

python -m tests.support.live.hog CPU SHARE        # needs root; until it is killed
"""

from __future__ import annotations

import os
import sys
import time

PERIOD_S = 0.1
PRIORITY = 50


def main() -> None:
    """Hogs of all processors are busy at once: their phase is the clock's, so no process can flee to another core."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    busy_s = float(sys.argv[2]) * PERIOD_S
    print("ready", flush=True)
    while True:
        phase_s = time.monotonic() % PERIOD_S
        if phase_s >= busy_s:
            time.sleep(PERIOD_S - phase_s)


if __name__ == "__main__":
    main()
