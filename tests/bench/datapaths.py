"""The datapaths side by side: how long a packet is on its way, what the switches carry, and what that costs.

    sudo .venv/bin/python -m tests.bench.datapaths [--hosts 16,64] [--only afxdp,user] [--seconds 4]

Brings a fabric up twice for each configuration (16 hosts: a minute, 64: several) and prints a row of a Markdown table:
median and 99th percentile of the round trip from the first host to one in its server, its pod and another pod, first
alone and then while eight greedy connections fill links that no ping crosses; the processor time of Open vSwitch and of
the workers meanwhile; and, with links too fast to matter, the frames that all switches together forward a second.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from scenario import Scenario
from testbed.emulation import EmulationSpec
from testbed.fabric_up import FabricUp, bring_up
from testbed.sandbox import prepare_sandbox, python_in_sandbox, require_sandbox, run
from testbed.send_buffer import SendBufferLease
from tests.support.background_traffic import PORT, background, ping_ms
from tests.support.paths import environment

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "user": {"datapath": "user"},
    "user, a daemon a switch": {"datapath": "user", "vswitchd": "own"},
    **{f"afxdp, sleeping up to {us} us": {"datapath": "afxdp", "max_sleep_us": us} for us in (0, 20, 50, 100)},
}
PODS = {16: 2, 64: 8}
UNSHAPED = 20.0
"""rate_scale of links of 10 Gbit/s: faster than any software switch here."""

POLL_S, DEADLINE_S = 0.1, 400.0
GREEDY = {"connections": 8, "rate_bps": None, "protocol": "tcp"}
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def inside(task: dict[str, Any]) -> dict[str, Any]:
    """The part within the sandbox: everything that is measured of one configuration, by name."""
    max_sleep_us = task["emulation"].pop("max_sleep_us", None)
    prepare_sandbox()
    began_s = time.monotonic()
    scenario = Scenario.model_validate({"fabric": {"pods": task["pods"]}})
    up = bring_up(scenario.build()[0], EmulationSpec.model_validate(task["emulation"]), poll_s=POLL_S, ecmp_seed=0)
    found: dict[str, Any] = {"bring_up_s": time.monotonic() - began_s}
    if max_sleep_us is not None:
        run("ovs-vsctl", "set", "Open_vSwitch", ".", f"other_config:pmd-maxsleep={max_sleep_us}")
        time.sleep(1.0)
    hosts = len(up.fabric.instances)
    if task["emulation"]["rate_scale"] == UNSHAPED:
        pairs = [(number, hosts // 2 + number) for number in range(0, hosts // 2, 2)]
        with_load(up, pairs, task["seconds"], lambda: found.update(frames_per_s=frames_per_s(task["seconds"])))
        return found
    targets = {"server": 1, "pod": 4, "across": hosts - 4}
    found["idle"] = measured(up, targets, ())
    rack = hosts // 2  # two servers of the first rack of another pod: no link of theirs is on a path of the pings
    with_load(up, [(rack, rack + 2)], 1.0, lambda: found.update(loaded=measured(up, targets, ("workers.background",))))
    return found


def with_load(up: FabricUp, pairs: list[tuple[int, int]], settle_s: float, then: Any) -> None:
    """Greedy connections between pairs of hosts, and something done once they are under way."""
    with ExitStack() as stack:
        for number, (source, sink) in enumerate(pairs):
            stack.enter_context(background(up, sink))
            giver = stack.enter_context(background(up, source))
            giver.tell("flow_start", flow_id=number, address=(up.address(sink), PORT), **GREEDY)
        time.sleep(settle_s)
        then()


def measured(up: FabricUp, targets: dict[str, int], workers: tuple[str, ...]) -> dict[str, Any]:
    """Round trips by target, ms, and processors kept busy meanwhile by Open vSwitch and by the workers."""
    began_s, before = time.monotonic(), {name: cpu_s(name) for name in ("ovs-vswitchd", *workers)}
    trips = {name: ping_ms(up, target) for name, target in targets.items()}
    took_s = time.monotonic() - began_s
    return {"trips": trips, "cpus": {name: (cpu_s(name) - spent_s) / took_s for name, spent_s in before.items()}}


def cpu_s(name: str) -> float:
    """Processor seconds of all processes in the sandbox whose command line holds a name."""
    spent = 0
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if name in (place / "cmdline").read_text(errors="replace"):
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                spent += int(fields[11]) + int(fields[12])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    return spent / TICKS_PER_S


def frames_per_s(seconds: float) -> float:
    """Frames that the ports of all switches send together."""

    def sent() -> int:
        lines = [line.split() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
        return sum(int(fields[10]) for fields in lines if re.fullmatch(r"(srv|tor|agg|core)\d+-eth\d+:", fields[0]))

    began_s, before = time.monotonic(), sent()
    time.sleep(seconds)
    return (sent() - before) / (time.monotonic() - began_s)


def asked(name: str, hosts: int, rate_scale: float, seconds: float) -> dict[str, Any]:
    """One configuration in a sandbox of its own."""
    emulation = {**CONFIGURATIONS[name], "rate_scale": rate_scale, "bringup_deadline_s": 200.0}
    task = {"pods": PODS[hosts], "emulation": emulation, "seconds": seconds}
    done = subprocess.run(
        python_in_sandbox("tests.bench.datapaths", "--inside", json.dumps(task)),
        env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{name}, {hosts} hosts: ended with exit code {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(name: str, hosts: int, shaped: dict[str, Any], fast: dict[str, Any]) -> str:
    cells = [name, str(hosts), f"{shaped['bring_up_s']:.0f}"]
    for state in ("idle", "loaded"):
        cells += [" ".join(f"{p50:.2f}/{p99:.1f}" for p50, p99 in shaped[state]["trips"].values())]
        cells += [" + ".join(f"{cpus:.2f}" for cpus in shaped[state]["cpus"].values())]
    return "| " + " | ".join([*cells, f"{fast['frames_per_s'] / 1e3:.0f} k"]) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", default="16")
    parser.add_argument("--only", default=",".join(CONFIGURATIONS), help="names begin with one of these")
    parser.add_argument("--seconds", type=float, default=4.0, help="for frames a second")
    parser.add_argument("--rate-scale", type=float, default=5000.0)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(inside(json.loads(given.inside))))
        return 0
    require_sandbox()
    wanted = [name for name in CONFIGURATIONS if name.startswith(tuple(given.only.split(",")))]
    trips = "server, pod, across, ms"
    heads = (
        "datapath",
        "hosts",
        "bring-up s",
        f"idle: {trips}",
        "OVS",
        f"loaded: {trips}",
        "OVS + workers",
        "frames/s",
    )
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|", flush=True)
    with SendBufferLease():
        for hosts in map(int, given.hosts.split(",")):
            for name in wanted:
                shaped = asked(name, hosts, given.rate_scale, given.seconds)
                print(row(name, hosts, shaped, asked(name, hosts, UNSHAPED, given.seconds)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
