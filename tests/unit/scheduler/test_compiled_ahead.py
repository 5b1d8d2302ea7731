"""What is compiled is compiled, or read from disk, before the first request of a run and not while it waits."""

from __future__ import annotations

import subprocess
import sys

from tests.support.paths import ROOT, environment

WATCHED = """
from numba.core.dispatcher import Dispatcher as Compiled
from scenario import Scenario
from scheduler import Dispatcher, kernels
from scheduler.in_flight import InFlight
from serving import prefill_queue
from simulator import AnalyticWorld

scenario = Scenario(policy="netkv_full", workload={"requests": 30})
dispatcher = Dispatcher(scenario, *scenario.build())
prefill_queue.PrefillQueues((0, 1))
watched = [one for module in (kernels, prefill_queue) for one in vars(module).values() if isinstance(one, Compiled)]
before = {one.py_func.__name__: list(one.signatures) for one in watched}
AnalyticWorld(scenario).run(scenario)
for number in (int, float):  # bytes and times are integers in one world and not in the other
    passing = InFlight(dispatcher._table)
    passing.start(1, 0, int(dispatcher._table.decode_id[0]), number(1), number(0), number(5))
    passing.stop(1, number(5), number(2))
for one in watched:
    late = [str(signature) for signature in one.signatures if signature not in before[one.py_func.__name__]]
    if late:
        print(one.py_func.__name__, late)
print("of", len(watched))
"""


def test_nothing_is_compiled_while_a_request_waits() -> None:
    command = [sys.executable, "-c", WATCHED]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "of 10\n"  # and none is named
