"""A policy that kills a decode worker in mid-run: an accident that no plan of faults knows of."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from scheduler import Candidates, View
from workloads import Request

VICTIM = "h2"
AT_REQUEST = 15


class KillsAWorker:
    """Each instance in turn; at request `AT_REQUEST` the decode worker on `VICTIM` is killed."""

    def __init__(self) -> None:
        self._turn = -1

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        if request.request_id == AT_REQUEST:
            os.kill(process_of("workers.decode", "--name", VICTIM), signal.SIGKILL)
        while True:
            self._turn = (self._turn + 1) % len(candidates)
            if candidates.feasible[self._turn]:
                return int(candidates.decode_id[self._turn])


def process_of(*words: str) -> int:
    """The process, among those that can be seen here, with these words one after another in its command line."""
    wanted = "\0".join(words) + "\0"
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if wanted in place.read_bytes().decode(errors="replace"):
                return int(place.parent.name)
        except OSError:
            continue  # it has ended meanwhile
    raise LookupError(f"no process runs {' '.join(words)}")
