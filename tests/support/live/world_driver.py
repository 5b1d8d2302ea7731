"""One emulated world driven to its end, told line by line: the victim of the tests that kill.

    python -m tests.support.live.world_driver ROUNDS REQUESTS

Prints `say TEXT` and `up` during bring-up, then for every round `done N` as requests complete and `outcome JSON`.
"""

from __future__ import annotations

import json
import sys

from scenario import CongestionSpec, Scenario, WorkloadSpec
from testbed.emulated_world import EmulatedWorld
from testbed.emulation import EmulationSpec
from tests.support.live.small_fabric import SMALL_FABRIC


def scenario(requests: int) -> Scenario:
    """Short answers to a brisk stream of requests, no background load."""
    workload = WorkloadSpec(requests=requests, rate_rps=4.0, max_output_tokens=16, max_input_tokens=8_000)
    return Scenario(fabric=SMALL_FABRIC, workload=workload, congestion=CongestionSpec(kind="none"))


def main() -> None:
    rounds, wanted = int(sys.argv[1]), scenario(int(sys.argv[2]))
    with EmulatedWorld(wanted, EmulationSpec(), say=lambda text: print("say", text, flush=True)) as world:
        print("up", flush=True)
        for _ in range(rounds):
            outcome = world.run(wanted, progress=lambda done: print("done", done, flush=True))
            statuses = [request.status for request in outcome.requests]
            print("outcome", json.dumps({"statuses": statuses, "duration_s": outcome.duration_s}), flush=True)


if __name__ == "__main__":
    main()
