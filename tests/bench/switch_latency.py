"""How long a packet is on its way through the fabric, idle and with other packets elsewhere: what small transfers pay.

    sudo .venv/bin/python -m tests.bench.switch_latency [--rate-scale 2500] [--vswitchd shared|own]

Brings the default fabric up, pings from the first host to one in its server, its pod and another pod, first alone and
then while eight connections between two hosts of another rack run as fast as they can; prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time

from scenario import Scenario
from testbed.emulation import EmulationSpec
from testbed.fabric_up import FabricUp, bring_up
from testbed.sandbox import RUN_DIR, prepare_sandbox, python_in_sandbox, require_root
from testbed.send_buffer import SendBufferLease
from tests.support.workers_driver import Worker

TARGETS = {"same server": 1, "same pod": 4, "across pods": 12}
LOAD = (8, 10)
"""Two servers of one rack of the second pod: no link of theirs is on a path of the pings."""

PINGS = 200
POLL_S = 0.1
PORT = 7002
DEADLINE_S = 100.0


def inside(spec: EmulationSpec) -> None:
    """The part within the sandbox."""
    prepare_sandbox()
    up = bring_up(Scenario().build()[0], spec, poll_s=POLL_S, ecmp_seed=0)
    idle = {name: ping_ms(up, target) for name, target in TARGETS.items()}
    source, sink = LOAD
    with background(up, sink), background(up, source) as giver:
        greedy = {"flow_id": 1, "connections": 8, "rate_bps": None, "protocol": "tcp"}
        giver.tell("flow_start", address=(up.address(sink), PORT), **greedy)
        time.sleep(1.0)
        loaded = {name: ping_ms(up, target) for name, target in TARGETS.items()}
    print("| round trip, median ms | idle | other packets elsewhere |")
    print("|---|---|---|")
    for name in TARGETS:
        print(f"| {name} | {idle[name]:.1f} | {loaded[name]:.1f} |")


def background(up: FabricUp, instance: int) -> Worker:
    node = up.net[up.fabric.instances[instance].name]
    into = ("mnexec", "-a", str(node.pid))
    address = ("--address", up.address(instance), "--port", str(PORT))
    return Worker(RUN_DIR, "background", node.name, *address, command=into)


def ping_ms(up: FabricUp, target: int) -> float:
    said = up.run_in(0, "ping", "-c", str(PINGS), "-i", "0.01", up.address(target))
    trips_ms = sorted(float(found) for found in re.findall(r"time=([\d.]+) ms", said))
    return trips_ms[len(trips_ms) // 2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate-scale", type=float, default=2500.0)
    parser.add_argument("--vswitchd", default="shared")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    spec = EmulationSpec.model_validate({"rate_scale": arguments.rate_scale, "vswitchd": arguments.vswitchd})
    if arguments.inside:
        inside(spec)
        return 0
    require_root()
    with SendBufferLease():
        command = python_in_sandbox("tests.bench.switch_latency", "--inside", *sys.argv[1:])
        return subprocess.run(command, stdin=subprocess.DEVNULL, timeout=DEADLINE_S, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
