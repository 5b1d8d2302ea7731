"""Policies of a user that take their time, or take their process or its parent with them."""

from __future__ import annotations

import os
import signal
import time

from scheduler.candidates import Candidates
from scheduler.policies.round_robin import RoundRobin
from scheduler.view import View
from workloads import Request


class Slow(RoundRobin):
    """Round-robin that thinks for a tenth of a second."""

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        time.sleep(0.1)
        return super().select(request, candidates, view)


class Hanging(RoundRobin):
    """Never decides."""

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        time.sleep(3600)
        raise AssertionError


class Fatal(RoundRobin):
    """Ends its process in the way of compiled code that crashes."""

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        os.kill(os.getpid(), signal.SIGSEGV)
        raise AssertionError


class Murderous(RoundRobin):
    """Ends the parent of its process: where it runs for a cluster, the worker."""

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        os.kill(os.getppid(), signal.SIGKILL)
        raise AssertionError


class Chatty(RoundRobin):
    """Prints while it decides."""

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        print("request", request.request_id, flush=True)
        os.write(1, b"and from below the interpreter\n")
        return super().select(request, candidates, view)


class Broken(RoundRobin):
    """Raises what no policy should."""

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        raise KeyError("rack")
