"""Bring up a fabric, or plain Mininet with as many hosts, switches and cables, in a sandbox of its own, and time it.

`ours` ends when every switch is programmed and every port's rate is checked. Plain Mininet's are the same switches of
Open vSwitch without a controller, once with its own `Link`, whose ports no rate limits, and once with `TCLink`, one HTB
class and one queue a port (ours has up to 259 classes for its fair queues).

    python -m tests.support.live.bring_up KIND HOSTS DATAPATH        # within a sandbox; prints the seconds
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

from mininet.link import Link, TCLink
from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.node import OVSSwitch
from mininet.topo import Topo

from testbed.emulation import EmulationSpec
from testbed.fabric_up import bring_up
from testbed.sandbox import prepare_sandbox, python_in_sandbox
from testbed.switches import start_switches
from tests.support.paths import environment
from topologies import Fabric, FabricSpec, build_fattree
from topologies.mininet import cables

SHAPES = {16: (2, 2, 2), 64: (2, 4, 4), 128: (4, 4, 4), 256: (8, 4, 4)}
"""Pods, racks a pod and servers a rack, of two instances each."""

DEADLINE_S = 600.0
TC_LIMIT_MBPS = 1000
"""Above it Mininet ignores a rate."""


class Plain(Topo):
    """The fabric's hosts, switches and cables, for any class of links."""

    def build(self, fabric: Fabric, rate_scale: float, limited: bool) -> None:
        for instance in fabric.instances:
            self.addHost(instance.name)
        for switch in fabric.switches:
            self.addSwitch(switch.name, dpid=f"{switch.dpid:016x}")
        for link in cables(fabric):
            mbps = min(link.capacity_bps / rate_scale / 1e6, TC_LIMIT_MBPS)
            self.addLink(link.source, link.target, **({"bw": mbps} if limited else {}))


def ours(fabric: Fabric, datapath: str) -> None:
    spec = EmulationSpec.model_validate({"datapath": datapath, "bringup_deadline_s": DEADLINE_S})
    bring_up(fabric, spec, poll_s=0.1, ecmp_seed=0)


def plain(fabric: Fabric, datapath: str, *, limited: bool = False) -> None:
    start_switches()
    topo = Plain(
        fabric=fabric, rate_scale=EmulationSpec.model_validate({"datapath": datapath}).rate_scale, limited=limited
    )
    link = TCLink if limited else Link
    kind = "kernel" if datapath == "kernel" else "user"
    setLogLevel("error")
    Mininet.inited = True  # let it not change host-wide limits
    net = Mininet(
        topo=topo,
        link=link,
        controller=None,
        switch=lambda name, **given: OVSSwitch(name, datapath=kind, batch=True, **given),
    )
    net.start()


KINDS: dict[str, Callable[[Fabric, str], None]] = {
    "ours": ours,
    "Link": plain,
    "TCLink": lambda fabric, datapath: plain(fabric, datapath, limited=True),
}


def inside(kind: str, hosts: int, datapath: str) -> None:
    """Bring one up, within its sandbox, and print how long that took."""
    prepare_sandbox()
    pods, racks, servers = SHAPES[hosts]
    fabric = build_fattree(FabricSpec(pods=pods, racks_per_pod=racks, servers_per_rack=servers))
    began_s = time.monotonic()
    KINDS[kind](fabric, datapath)
    print(json.dumps(time.monotonic() - began_s), flush=True)


def bring_up_s(kind: str, hosts: int, datapath: str) -> float:
    """Seconds of one bring-up. RuntimeError with what it said when it failed."""
    command = python_in_sandbox("tests.support.live.bring_up", kind, str(hosts), datapath)
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{kind} with {hosts} hosts: {done.stderr.strip()}")
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


if __name__ == "__main__":
    inside(sys.argv[1], int(sys.argv[2]), sys.argv[3])
