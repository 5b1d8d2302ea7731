"""What a frame costs at each hop when the kernel forwards, on a machine without Open vSwitch's module.

    python -m tests.bench.kernel_path [--rate-Mbps 0 200 1000] [--queue fair fifo] [--connections 4] [--seconds 5]

Needs root and iperf3. The way across pods, seven switches and eight links, is a chain of the kernel's own bridges in a
sandbox, its ports shaped as a fabric's are (0: not shaped). A bridge looks up an address where Open vSwitch looks up a
flow: the veth pairs, the shapers and TCP around it are the same code. A row of JSON each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import time
from typing import Any

from testbed.capacity import FRAME_BYTES, FRAMES_A_SEGMENT, PAYLOAD_BYTES
from testbed.cpu_monitor import processor_times
from testbed.emulation import EmulationSpec
from testbed.sandbox import prepare_sandbox, python_in_sandbox, run
from tests.support.paths import ROOT
from topologies.shaping import QueueKind, Shape, shaping_command

DEADLINE_S = 60.0
SWITCHES = 7
HOSTS = ("sender", "receiver")


def chain(rate_Mbps: float, queue: QueueKind, burst_ms: float) -> None:
    """Switches in a row with a host at either end, each host in a network namespace of its own."""
    shape = Shape(rate_bps=rate_Mbps * 1e6, queue=queue, burst_s=burst_ms / 1e3)
    for number in range(SWITCHES):
        run("ip", "link", "add", f"switch{number}", "up", "type", "bridge")
    ends = [HOSTS[0], *(f"switch{number}" for number in range(SWITCHES)), HOSTS[1]]
    for host in HOSTS:
        run("ip", "netns", "add", host)
    for number, pair in enumerate(itertools.pairwise(ends)):
        ports = f"{number}a", f"{number}b"
        run("ip", "link", "add", ports[0], "type", "veth", "peer", "name", ports[1])
        for port, end in zip(ports, pair, strict=True):
            where: tuple[str, ...] = ()
            if end in HOSTS:
                where = ("ip", "netns", "exec", end)
                run("ip", "link", "set", port, "netns", end)
                run(*where, "ip", "address", "add", f"10.0.0.{1 + HOSTS.index(end)}/24", "dev", port)
            else:
                run("ip", "link", "set", port, "master", end)
            run(*where, "ethtool", "-K", port, "tx", "off", "gso", "off", "gro", "off")
            run(*where, "ip", "link", "set", port, "up")
            if rate_Mbps:
                run(*where, "sh", "-c", shaping_command(port, shape))


def measure(rate_Mbps: float, queue: QueueKind, burst_ms: float, connections: int, seconds: float) -> dict[str, Any]:
    """To be called in a sandbox."""
    prepare_sandbox()
    chain(rate_Mbps, queue, burst_ms)
    at = [("ip", "netns", "exec", host) for host in HOSTS]
    with subprocess.Popen([*at[1], "iperf3", "-s", "-1"], stdout=subprocess.DEVNULL):
        while "5201" not in run(*at[1], "ss", "-ltn"):
            time.sleep(0.05)  # for DEADLINE_S at most: then the whole sandbox is ended
        began_s, began = time.monotonic(), processor_times().busy_s
        words = ("-c", "10.0.0.2", "-t", f"{seconds:g}", "-P", f"{connections}", "-C", "cubic", "-J")
        said = json.loads(run(*at[0], "iperf3", *words))
        busy_cpus = (processor_times().busy_s - began) / (time.monotonic() - began_s)
    goodput_bps = said["end"]["sum_received"]["bits_per_second"]
    switched_per_s = goodput_bps / 8 / PAYLOAD_BYTES * FRAMES_A_SEGMENT * SWITCHES
    return {
        "rate_Mbps": rate_Mbps,
        "queue": queue if rate_Mbps else "none",
        "burst_ms": burst_ms,
        "connections": connections,
        "wire_Mbps": round(goodput_bps * FRAME_BYTES / PAYLOAD_BYTES / 1e6),
        "busy_cpus": round(busy_cpus, 2),
        "switched_per_s_and_cpu": round(switched_per_s / busy_cpus),
        "sent_again": said["end"]["sum_sent"]["retransmits"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate-Mbps", type=float, nargs="+", default=[0, 200, 1000])
    parser.add_argument("--queue", choices=("fair", "fifo"), nargs="+", default=["fair"])
    parser.add_argument("--burst-ms", type=float, nargs="+", default=[EmulationSpec(datapath="kernel").burst_ms])
    parser.add_argument("--connections", type=int, nargs="+", default=[4])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    rows = list(itertools.product(options.rate_Mbps, options.queue, options.burst_ms, options.connections))
    if options.inside:
        results = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        os.dup2(2, 1)
        print(json.dumps(measure(*rows[0], options.seconds)), file=results)
        return
    for row in rows:
        words = itertools.chain(*zip(("--rate-Mbps", "--queue", "--burst-ms", "--connections"), row, strict=True))
        asked = map(str, (*words, "--seconds", options.seconds))
        command = python_in_sandbox("tests.bench.kernel_path", "--inside", *asked)
        subprocess.run(command, cwd=ROOT, check=True, timeout=DEADLINE_S + options.seconds)


if __name__ == "__main__":
    main()
