"""What tells a fabric on several machines from one on a single machine: clocks, tunnels, one oracle of both."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from testbed.fabric_up import ORACLE_SOCKET
from testbed.machines import JOINT
from testbed.oracle_client import OracleClient
from testbed.sandbox import run
from tests.support.live.lab import Lab
from topologies import cut_links

LOADED_S = 4.0
WIRE_EFFICIENCY = 1448 / 1514
HALF = 0.5


def clocks(lab: Lab) -> list[dict[str, float]]:
    """Of every machine: its clock against the driver's at bring-up and now, and the error that each may have, s."""
    return [
        {"ahead_s": before.ahead_s, "error_s": before.error_s, "now_s": now.ahead_s, "error_now_s": now.error_s}
        for before, now in zip(lab.up.clocks, (machine.clock_offset() for machine in lab.up.machines), strict=True)
    ]


def joint(lab: Lab) -> dict[str, Any]:
    """Load from every instance across the pods: frames into and out of each tunnel, and all bytes between the machines.

    The controller is stopped meanwhile, so that they are the tunnels' alone; `control_Bps`: what it needs otherwise.
    """
    controller = lab.up.controller
    assert controller is not None
    began, began_s = _carried(lab), time.monotonic()
    time.sleep(LOADED_S)
    control_Bps = (_carried(lab) - began) / (time.monotonic() - began_s)
    for source, target in lab.cross_pod_pairs():
        lab.worker("background", source), lab.worker("background", target)
    os.kill(controller.pid, signal.SIGSTOP)
    lab.counts_at_rest()
    before, carried = lab.ports(), _carried(lab)
    flows = [(source, lab.start_flow(source, target, connections=4)) for source, target in lab.cross_pod_pairs()]
    time.sleep(LOADED_S)
    for source, flow in flows:
        lab.stop_flow(source, flow)
    lab.counts_at_rest()
    after, carried = lab.ports(), _carried(lab) - carried
    os.kill(controller.pid, signal.SIGCONT)
    sent, received = {}, {}
    for link in cut_links(lab.fabric, lab.up.machine_of):
        out, into = (link.source, link.source_port), (link.target, link.target_port)
        sent[link.name] = vars(after[out][1] - before[out][1])
        received[link.name] = vars(after[into][0] - before[into][0])
    return {"sent": sent, "received": received, "carried_bytes": carried, "control_Bps": control_Bps}


def _carried(lab: Lab) -> int:
    """Bytes that the network has carried to and from the machines beside the driver's, both ways."""
    total = 0
    for machine in lab.up.machines[1:]:
        (found,) = json.loads(run(*machine.enter, "ip", "-s", "-j", "link", "show", "dev", JOINT))
        total += found["stats64"]["tx"]["bytes"] + found["stats64"]["rx"]["bytes"]
    return total


def load_on_a_path(lab: Lab) -> dict[str, Any]:
    """A paced connection across the pods at half of its path's rate: what the oracle says of each link, bit/s, the
    sink's own count, and the machine on which each link is measured."""
    source, target = lab.pair_of_tier(3)
    flow = lab.start_flow(source, target, rate_bps=HALF * lab.path_rate_bps(source, target) * WIRE_EFFICIENCY)
    time.sleep(1.0)
    client, seen = OracleClient(ORACLE_SOCKET), {}
    received, started_s = lab.received_bytes(target), time.monotonic()
    while time.monotonic() < started_s + LOADED_S:
        document = client.fetch(1.0)
        seen[document["sampled_monotonic_s"]] = document["links"]
        time.sleep(0.02)
    received, took_s = lab.received_bytes(target) - received, time.monotonic() - started_s
    lab.stop_flow(source, flow)
    meters = {
        link.name: link.source if link.source in lab.fabric.switch_by_name else link.target for link in lab.fabric.links
    }
    return {
        "complete": document["complete"],
        "silent": document["switches_missing"] + document["links_down"],
        "truth_bps": received * 8 / WIRE_EFFICIENCY / took_s,
        "said_bps": {
            link.name: sum(links[link.name]["utilisation"] for links in seen.values())
            / len(seen)
            * link.capacity_bps
            / lab.up.link_divisor
            for link in lab.fabric.links
        },
        "machine_of": {name: lab.up.machine_of[switch] for name, switch in meters.items()},
        "paths": [[lab.fabric.links[index].name for index in path] for path in lab.fabric.paths(source, target)],
    }
