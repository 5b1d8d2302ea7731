"""Policies that kill a decode worker or the switches in mid-run: accidents that no plan of faults knows of."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from scheduler import Candidates, View
from testbed.vswitchd import RUN_FOLDER
from workloads import Request

VICTIM = "h2"
AT_REQUEST = 15


class KillsAWorker:
    """Each instance in turn; at request `AT_REQUEST` the decode worker on `VICTIM` is killed."""

    def __init__(self) -> None:
        self._turn = -1

    def victim(self) -> int:
        return process_of("workers.decode", "--name", VICTIM)

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        if request.request_id == AT_REQUEST:
            os.kill(self.victim(), signal.SIGKILL)
        while True:
            self._turn = (self._turn + 1) % len(candidates)
            if candidates.feasible[self._turn]:
                return int(candidates.decode_id[self._turn])


class KillsTheSwitches(KillsAWorker):
    """The same; what is killed is the daemon that forwards for all switches."""

    def victim(self) -> int:
        return int((RUN_FOLDER / "ovs-vswitchd.pid").read_text())


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
