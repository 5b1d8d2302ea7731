"""Half of every core link filled by paced flows: how evenly they come, and how long a packet is on its way meanwhile.

    sudo .venv/bin/python -m tests.bench.paced_load [--datapath afxdp,user] [--rate-scale 5000]

64 connections of 32 pairs across the pods. Prints, a row a datapath: round trips (median and 99th percentile) from the
first host to one in its server, its pod and another pod, and by how much the load of a core link differs from one tenth
of a second to the next (standard deviation over mean, mean over the links).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from itertools import pairwise
from statistics import mean, pstdev
from typing import Any

from scenario import Scenario
from testbed.emulation import EmulationSpec
from testbed.fabric_up import FabricUp, bring_up
from testbed.port_watch import PortWatch
from testbed.sandbox import prepare_sandbox, python_in_sandbox, require_sandbox
from testbed.send_buffer import SendBufferLease
from tests.support.background_traffic import PORT, background, ping_ms
from tests.support.paths import environment
from tests.support.workers_driver import Worker
from topologies import Level

LOAD, CONNECTIONS, SETTLE_S, WINDOWS, WINDOW_S, DEADLINE_S = 0.45, 2, 2.0, 30, 0.1, 120.0
TARGETS = (1, 4, 15)


def inside(emulation: dict[str, Any]) -> dict[str, Any]:
    """The part within the sandbox."""
    prepare_sandbox()
    fabric, _ = Scenario().build()
    up = bring_up(fabric, EmulationSpec.model_validate(emulation), poll_s=0.1, ecmp_seed=0)
    hosts = len(fabric.instances)
    pairs = [
        (one, (one + hosts // 2 + shift * (1 - 2 * (one % 2))) % hosts) for shift in (0, 1) for one in range(hosts)
    ]
    core_bps = fabric.spec.core_uplink_rate_bps / up.link_divisor
    rate_bps = LOAD * core_bps * len(fabric.switches_at(Level.CORE)) * fabric.spec.pods / len(pairs)
    workers: dict[int, Worker] = {}
    with ExitStack() as stack:
        for number, (source, target) in enumerate(pairs):
            for host in {source, target} - workers.keys():
                workers[host] = stack.enter_context(background(up, host))
            flow = {"flow_id": number, "connections": CONNECTIONS, "rate_bps": rate_bps, "protocol": "tcp"}
            workers[source].tell("flow_start", address=(up.address(target), PORT), **flow)
        time.sleep(SETTLE_S)
        return {"unevenness": unevenness(up), "round_trips_ms": [ping_ms(up, target) for target in TARGETS]}


def unevenness(up: FabricUp) -> float:
    watch = PortWatch(up.fabric, up.link_divisor, up.spec.burst_ms / 1e3, up.split)
    core = {switch.name for switch in up.fabric.switches_at(Level.CORE)}
    links = [link.name for link in up.fabric.links if link.source in core or link.target in core]
    seen = [watch.read()]
    for _ in range(WINDOWS):
        time.sleep(WINDOW_S)
        seen.append(watch.read())
    moved = [[after[link].bytes - before[link].bytes for before, after in pairwise(seen)] for link in links]
    return mean(pstdev(of) / mean(of) for of in moved if sum(of))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datapath", default="afxdp,user")
    parser.add_argument("--rate-scale", type=float, default=5000.0)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(inside(json.loads(given.inside))))
        return 0
    require_sandbox()
    print("| datapath | server, pod, across: median/p99, ms | unevenness of a core link |\n|---|---|---|")
    with SendBufferLease():
        for datapath in given.datapath.split(","):
            task = json.dumps({"datapath": datapath, "rate_scale": given.rate_scale})
            command = python_in_sandbox("tests.bench.paced_load", "--inside", task)
            done = subprocess.run(
                command, env=environment(), stdout=subprocess.PIPE, text=True, timeout=DEADLINE_S, check=True
            )
            found = json.loads(done.stdout.splitlines()[-1])
            trips = " ".join(f"{p50:.2f}/{p99:.1f}" for p50, p99 in found["round_trips_ms"])
            print(f"| {datapath} | {trips} | {found['unevenness']:.1%} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
