"""What happens on a real fabric, told as JSON: the body of `tests/live/test_controller.py`, run inside a sandbox.

    python -m tests.support.live.controller_probe ryu|os_ken bundle|select

Observes and reports; the tests judge.
"""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from testbed.emulation import EmulationSpec
from testbed.fabric_up import ORACLE_SOCKET, FabricUp, bring_up
from testbed.oracle_client import OracleClient, OracleUnavailableError
from testbed.sandbox import prepare_sandbox, run
from topologies import FabricSpec, Level, build_fattree

SPEC = FabricSpec(servers_per_rack=1)
"""8 instances on 16 switches: tiers 0, 2 and 3, two equal ways up at both levels."""

TRANSFER_B = 3_000_000
CONNECTIONS_EACH = 64
DEADLINE_S = 15.0
POLL_S = 0.1

RECEIVE = """
import socket
with socket.create_server(("", 5001)) as server:
    server.settimeout(15)
    with server.accept()[0] as peer:
        while peer.recv(1 << 16): pass
"""
SEND = """
import socket, sys, time
for attempt in range(100):
    try:
        peer = socket.create_connection((sys.argv[1], 5001), 15)
        break
    except ConnectionRefusedError:
        time.sleep(0.05)
peer.sendall(bytes(int(sys.argv[2])))
peer.close()
"""
KNOCK = """
import errno, socket, sys
for target in sys.argv[2:]:
    for _ in range(int(sys.argv[1])):
        with socket.socket() as peer:
            peer.settimeout(5)
            if peer.connect_ex((target, 9)) != errno.ECONNREFUSED:
                print(target)
"""
"""Connects where nobody listens, and names a target each time that its refusal does not come back."""

METRICS_PORT, ALTO_PORT = 9464, 9465
CUT = ("agg0", "core0")


def tables(up: FabricUp) -> dict[str, list[str]]:
    """Flows and groups of every switch, without what counts and ages."""
    found = {}
    for switch in up.fabric.switches:
        shown = run("ovs-ofctl", "-O", "OpenFlow13", "--no-stats", "dump-flows", switch.name)
        groups = run("ovs-ofctl", "-O", "OpenFlow13", "dump-groups", switch.name)
        found[switch.name] = sorted(line.strip() for line in [*shown.splitlines(), *groups.splitlines()[1:]])
    return found


def latest() -> dict[str, Any]:
    client = OracleClient(ORACLE_SOCKET)
    document = client.fetch(deadline_s=2.0)
    client.close()
    return document


def document_when(holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first document of which `holds` is true; the last one seen at the deadline."""
    until_s = time.monotonic() + DEADLINE_S
    while True:
        document = latest()
        if holds(document) or time.monotonic() > until_s:
            return document
        time.sleep(POLL_S / 2)


def ping_all(up: FabricUp) -> list[str]:
    """The pairs that a ping did not join."""
    lost = []
    for source in up.fabric.instances:
        targets = [up.address(other.index) for other in up.fabric.instances if other != source]
        loop = f"for t in {' '.join(targets)}; do ping -c1 -W2 -q $t >/dev/null || echo $t; done"
        lost += [f"{source.name}>{target}" for target in up.run_in(source.index, "sh", "-c", loop).split()]
    return lost


def transfer(up: FabricUp, source: int, target: int) -> dict[str, int]:
    """Bytes that every link carried while one TCP connection moved TRANSFER_B."""
    before = latest()["links"]
    receiver = up.net[f"h{target}"].popen([sys.executable, "-c", RECEIVE])
    up.run_in(source, sys.executable, "-c", SEND, up.address(target), str(TRANSFER_B))
    receiver.wait(DEADLINE_S)
    ended_s = time.monotonic()
    after = document_when(lambda document: document["sampled_monotonic_s"] > ended_s)["links"]
    return {name: after[name]["bytes"] - before[name]["bytes"] for name in after}


def spread(up: FabricUp, to_pod: int = 1, connections: int = CONNECTIONS_EACH) -> tuple[dict[str, int], list[str]]:
    """How many of many connections from the other pod crossed each core, and the targets that did not answer one."""
    sources = [instance.index for instance in up.fabric.instances if instance.pod != to_pod]
    targets = [up.address(instance.index) for instance in up.fabric.instances if instance.pod == to_pod]
    wanted = len(sources) * len(targets) * connections
    cores = [switch.name for switch in up.fabric.switches_at(Level.CORE)]
    before = {core: _to_pod(core, to_pod) for core in cores}
    silent = []
    for source in sources:
        silent += up.run_in(source, sys.executable, "-c", KNOCK, str(connections), *targets).split()
    until_s = time.monotonic() + DEADLINE_S
    while True:  # a datapath hands its packet counts over with a delay
        crossed = {core: _to_pod(core, to_pod) - before[core] for core in cores}
        if sum(crossed.values()) >= wanted - len(silent) or time.monotonic() > until_s:
            return crossed, silent
        time.sleep(0.1)


def _to_pod(core: str, pod: int) -> int:
    shown = run("ovs-ofctl", "-O", "OpenFlow13", "dump-flows", core, f"ip,nw_dst=10.{pod}.0.0/16")
    return sum(int(count) for count in re.findall(r"n_packets=(\d+)", shown))


def _knows(document: dict[str, Any], down: bool) -> bool:
    return bool(document["links_down"]) == down and not document["switches_missing"]


def cut_a_cable(up: FabricUp) -> dict[str, Any]:
    """Take down one of the two cables of a core, and put it up again."""
    link = up.fabric.link_by_name[">".join(CUT)]
    interface = f"{link.source}-eth{link.source_port}"
    whole, told = tables(up), {}
    for step, state in (("cut", "down"), ("restored", "up")):
        began_s = time.monotonic()
        run("ip", "link", "set", interface, state)
        known = document_when(partial(_knows, down=state == "down"))
        told[step] = {"links_down": known["links_down"], "took_s": time.monotonic() - began_s}
        now = tables(up)
        told[step]["changed"] = [name for name in now if now[name] != whole[name]]
        for pod in (0, 1):
            told[step][f"to_pod_{pod}"] = spread(up, pod, CONNECTIONS_EACH // 4)
    return told


def scrape() -> str:
    """What Prometheus would read."""
    with urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=5) as answer:
        page: str = answer.read().decode()
    return page


def alto() -> dict[str, Any]:
    """What an ALTO client reads once its server has a snapshot of a fabric on which nothing goes on any more."""
    until_s = time.monotonic() + DEADLINE_S
    idle_Bps = 0.95 * SPEC.tor_uplink_rate_bps * SPEC.aggregations_per_pod / 8
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ALTO_PORT}/costmap/bw-available", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)["cost-map"]
            if found["srv1"]["srv2"] >= idle_Bps or time.monotonic() > until_s:
                return found
            time.sleep(0.1)
        except urllib.error.HTTPError as problem:
            if problem.code != 503 or time.monotonic() > until_s:
                raise
            time.sleep(0.1)


def lose_a_switch(up: FabricUp) -> dict[str, Any]:
    """Cut core0 off its controller for a second, then let it back."""
    run("ovs-vsctl", "del-controller", "core0")
    gone = document_when(lambda document: document["switches_missing"] == ["core0"])
    time.sleep(1.0)
    later = latest()
    run("ovs-vsctl", "set-controller", "core0", f"tcp:127.0.0.1:{up.spec.controller_port}")
    back = document_when(
        lambda document: (
            not document["switches_missing"] and document["sampled_monotonic_s"] > later["sampled_monotonic_s"] + 1
        )
    )
    return {
        "missing": gone["switches_missing"],
        "sampled_s": [document["sampled_monotonic_s"] for document in (gone, later, back)],
        "sequence": [document["sequence"] for document in (gone, later, back)],
        "missing_at_last": back["switches_missing"],
    }


def restart(up: FabricUp) -> dict[str, Any]:
    """Spoil a table, kill the controller outright, start another one."""
    run("ovs-ofctl", "-O", "OpenFlow13", "add-flow", "srv0", "priority=999,icmp,actions=CONTROLLER:64")
    pinger = up.net["h0"].popen(["ping", "-i", "0.2", "-q", up.address(1)])  # the first may still meet the old flow
    packet_ins = document_when(lambda document: document["packet_ins"] > 0)["packet_ins"]
    pinger.kill()
    pinger.wait()
    assert up.controller is not None
    up.controller.kill()
    up.controller.wait()
    try:
        latest()
        answers = True
    except OracleUnavailableError:
        answers = False
    lost = up.run_in(2, "sh", "-c", f"ping -c1 -W2 -q {up.address(7)} >/dev/null || echo lost").split()
    up.start_controller()
    up.wait_until_programmed(DEADLINE_S)
    return {"packet_ins": packet_ins, "killed_answers": answers, "lost_without": lost, "tables": tables(up)}


def main(driver: str, ecmp: str) -> dict[str, Any]:
    prepare_sandbox()
    began_s = time.monotonic()
    up = bring_up(
        build_fattree(SPEC),
        EmulationSpec(controller=driver, ecmp=ecmp, prometheus_port=METRICS_PORT, alto_port=ALTO_PORT),
        poll_s=POLL_S,
        ecmp_seed=0,
    )
    told: dict[str, Any] = {
        "spec": asdict(SPEC),
        "transfer_bytes": TRANSFER_B,
        "up_s": time.monotonic() - began_s,
        "spread": spread(up)[0],
    }
    if ecmp == "bundle":
        told |= {
            "lost": ping_all(up),
            "tables": tables(up),
            "document": latest(),
            "transfer": transfer(up, 0, 7),
            "metrics": scrape(),
            "alto": alto(),
            "after_metrics": latest(),
            "cable": cut_a_cable(up),
            "lost_switch": lose_a_switch(up),
            "restart": restart(up),
        }
    up.stop_controller()
    assert up.controller is not None
    told |= {"exit_code": up.controller.returncode, "socket_left": ORACLE_SOCKET.exists()}
    return told


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
