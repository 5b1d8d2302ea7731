"""The reference of what Python drives: a bare event loop that does next to nothing at each event.

How fast it goes says how fast the machine is at this moment. What is measured beside it, turn by turn, can be compared
with another day.
"""

from __future__ import annotations

import heapq
import time

EVENTS = 20_000
SUBJECTS = 256


def bare_loop_s() -> float:
    """CPU seconds of an event of a loop that takes the earliest of 256, counts it and books the subject's next one."""
    heap = [(float(subject), subject) for subject in range(SUBJECTS)]
    seen = dict.fromkeys(range(SUBJECTS), 0)
    begin_s = time.process_time()
    for _ in range(EVENTS):
        at_s, subject = heapq.heappop(heap)
        seen[subject] += 1
        heapq.heappush(heap, (at_s + 1.0 + (subject * seen[subject]) % 7, subject))
    return (time.process_time() - begin_s) / EVENTS
