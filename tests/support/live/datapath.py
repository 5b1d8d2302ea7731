"""What tells the kernel's datapath from the userspace one: its name, delays of links, queues that mark."""

from __future__ import annotations

import re
import time
from typing import Any

from testbed.sandbox import run
from tests.support.live.lab import Lab

LOADED_S = 3.0


def datapaths(_lab: Lab) -> str:
    """What Open vSwitch says its switches run on."""
    return run("ovs-appctl", "dpif/show")


def round_trips(lab: Lab) -> list[dict[str, Any]]:
    """The least round trip of a few pings within a rack and across the pods, and the number of links crossed."""
    found = []
    for tier in (1, 3):
        source, target = lab.pair_of_tier(tier)
        said = lab.up.run_in(source, "ping", "-q", "-c", "5", "-i", "0.5", "-W", "5", lab.up.address(target))
        least_ms = re.search(r"= ([0-9.]+)/", said)
        assert least_ms, said
        found.append({"least_s": float(least_ms[1]) / 1e3, "links": 2 * len(lab.fabric.paths(source, target)[0])})
    return found


def ecn(lab: Lab) -> dict[str, Any]:
    """Of four greedy flows: frames that queues marked, marks that came back to the sender, and congestion control."""
    source, target = lab.pair_of_tier(3)
    flow = lab.start_flow(source, target, connections=4)
    time.sleep(LOADED_S)
    said = lab.up.run_in(source, "ss", "-Htin", "dst", lab.up.address(target))
    lab.stop_flow(source, flow)
    marked = sum(int(count) for count in re.findall(r" marked (\d+)", run("tc", "-s", "qdisc", "show")))
    details = [line.split() for line in said.splitlines() if "wscale" in line]
    return {
        "marked": marked,
        "heard": sum(int(count) for count in re.findall(r"delivered_ce:(\d+)", said)),
        "congestion_control": [next(word for word in line if word.isalpha()) for line in details],
    }
