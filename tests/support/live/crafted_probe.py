"""The first process of a sandbox: sends crafted TCP segments, captures them on every switch port, asks for their paths.

    python -m tests.support.live.crafted_probe '{"ecmp_seed": 3}'

Writes one JSON list of {source, target, source_port, path, predicted, captured}: interfaces by name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from typing import Any

from scapy.layers.inet import IP, TCP
from scapy.sendrecv import AsyncSniffer

from testbed.ecmp import PathTracer, TracedConnection
from testbed.emulation import EmulationSpec
from testbed.fabric_up import FabricUp, bring_up
from testbed.sandbox import prepare_sandbox
from testbed.vswitchd import VSwitchd
from topologies import FabricSpec, build_fattree, middle_of
from topologies.mininet import interface_of

TARGET_PORT = 7001
PAIRS = ((0, 2), (0, 4), (4, 0), (0, 8), (13, 2))
PORTS = range(40_000, 40_012)
SETTLE_S, LISTEN_DEADLINE_S = 1.0, 30.0

SENDER = """
import sys
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.sendrecv import sendp
interface, source_mac, target_mac, source, target, target_port, *ports = sys.argv[1:]
sendp([Ether(src=source_mac, dst=target_mac) / IP(src=source, dst=target)
       / TCP(sport=int(port), dport=int(target_port), flags="S") for port in ports], iface=interface, verbose=False)
"""


def send(up: FabricUp, source: int, target: int) -> None:
    """One SYN from every source port, from within the source's namespace."""
    node, peer = (up.net[up.fabric.instances[instance].name] for instance in (source, target))
    addresses = (node.MAC(), peer.MAC(), up.address(source), up.address(target))
    ports = map(str, (TARGET_PORT, *PORTS))
    command = (sys.executable, "-c", SENDER, f"{node.name}-eth0", *addresses, *ports)
    subprocess.run(["mnexec", "-a", str(node.pid), *command], check=True, timeout=60)


def interfaces_of(up: FabricUp, path: tuple[int, ...]) -> list[str]:
    """The switches' interfaces that a path's packets leave or enter by; of split links their middles, where a capture
    sees them."""
    found = set()
    for link in (up.fabric.links[index] for index in path):
        if link.source in up.fabric.switch_by_name:
            found.add(interface_of(link))
        if link.target in up.fabric.switch_by_name:
            found.add(f"{link.target}-eth{link.target_port}")
    return sorted(map(middle_of, found) if up.split else found)


def main() -> None:
    results = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    prepare_sandbox()
    spec = EmulationSpec.model_validate_json(sys.argv[1])
    up = bring_up(build_fattree(FabricSpec()), spec, poll_s=0.1, ecmp_seed=spec.ecmp_seed)
    watched = sorted(interfaces_of(up, tuple(range(len(up.fabric.links)))))
    listening = threading.Event()
    sniffer = AsyncSniffer(
        iface=watched,
        lfilter=lambda frame: TCP in frame and frame[TCP].dport == TARGET_PORT,
        started_callback=listening.set,
    )
    sniffer.start()
    assert listening.wait(LISTEN_DEADLINE_S)
    for source, target in PAIRS:
        send(up, source, target)
    time.sleep(SETTLE_S)
    captured: dict[tuple[str, str, int], set[str]] = {}
    for frame in sniffer.stop() or ():
        key = (frame[IP].src, frame[IP].dst, frame[TCP].sport)
        captured.setdefault(key, set()).add(str(frame.sniffed_on))
    rows: list[dict[str, Any]] = []
    with VSwitchd() as vswitchd:
        tracer = PathTracer(up.fabric, vswitchd.ask)
        for source, target in PAIRS:
            for port in PORTS:
                path = tracer.path(TracedConnection(source, target, port, TARGET_PORT))
                seen = captured.get((up.address(source), up.address(target), port), set())
                rows.append(
                    {
                        **{"source": source, "target": target, "source_port": port, "path": path},
                        "predicted": interfaces_of(up, up.fabric.paths(source, target)[path]),
                        "captured": sorted(seen),
                    }
                )
    print(json.dumps(rows), file=results)


if __name__ == "__main__":
    main()
