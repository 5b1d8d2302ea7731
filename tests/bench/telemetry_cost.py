"""What telemetry costs the operator, by the number of switches: CPU of the controller, bytes a second, round trips.

    python -m tests.bench.telemetry_cost [--poll 0.05] [--pods 2 4 8] [--seconds 10]

Needs root. Each fabric has a sandbox of its own; a row of JSON each. Nothing but telemetry moves, so the loopback of
the sandbox carries the control channel alone (its counters see each byte once, TCP and IP headers included).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from typing import Any

from testbed.emulation import EmulationSpec
from testbed.fabric_up import ORACLE_SOCKET, bring_up
from testbed.oracle_client import OracleClient
from testbed.sandbox import prepare_sandbox, python_in_sandbox
from testbed.telemetry_watch import cpu_s, loopback_bytes
from tests.support.paths import ROOT
from topologies import FabricSpec, build_fattree

DEADLINE_S = 240.0
SETTLE_S = 2.0


def measure(pods: int, poll_s: float, seconds: float) -> dict[str, Any]:
    """A fabric of eight switches a pod and four cores, polled for a while. To be called in a sandbox."""
    prepare_sandbox()
    spec = FabricSpec(pods=pods)
    up = bring_up(build_fattree(spec), EmulationSpec(), poll_s=poll_s, ecmp_seed=0)
    assert up.controller is not None
    time.sleep(SETTLE_S)
    began = time.monotonic(), cpu_s(up.controller.pid), loopback_bytes()
    time.sleep(seconds)
    ended = time.monotonic(), cpu_s(up.controller.pid), loopback_bytes()
    document = OracleClient(ORACLE_SOCKET).fetch(5.0)
    elapsed_s = ended[0] - began[0]
    return {
        "switches": len(up.fabric.switches),
        "links": len(up.fabric.links),
        "poll_s": poll_s,
        "cpu_of_a_core_percent": round(100 * (ended[1] - began[1]) / elapsed_s, 2),
        "control_bytes_per_s": round((ended[2] - began[2]) / elapsed_s),
        "round_trip_ms": document["poll_round_trip_ms"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poll", type=float, default=0.05)
    parser.add_argument("--pods", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        results = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        os.dup2(2, 1)
        print(json.dumps(measure(options.pods[0], options.poll, options.seconds)), file=results)
        return
    for pods in options.pods:
        command = python_in_sandbox("tests.bench.telemetry_cost", "--inside", "--pods", str(pods))
        command = [*command, "--poll", str(options.poll), "--seconds", str(options.seconds)]
        subprocess.run(command, cwd=ROOT, check=True, timeout=DEADLINE_S, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
