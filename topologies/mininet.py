"""The fat-tree as a `mininet.topo.Topo`, and the link whose rate is exactly what was asked.

The only module of this room that knows Mininet. It loads in plain Mininet too:

    mn --custom topologies/mininet.py --topo fattree4,pods=2,rate_scale=2500 --switch ovs,datapath=user ...

Mininet's own `bw=` is not used: above 1000 Mbit/s it is ignored with a warning and the link is left unlimited.
"""

from __future__ import annotations

import math
import os
import sys
from typing import Any

from mininet.link import Link as MininetLink
from mininet.link import TCIntf
from mininet.node import Host, Node
from mininet.topo import Topo

# `mn --custom FILE` executes this file outside its package: make the package importable from where the file stands.
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(sys._getframe().f_code.co_filename)))
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)

from topologies.addressing import HOST_NETMASK_BITS, instance_ip, instance_mac  # noqa: E402
from topologies.fabric import Fabric, FabricError, FabricSpec, Link  # noqa: E402
from topologies.fattree import build_fattree  # noqa: E402

DEFAULT_RATE_SCALE = 2500.0
"""Real bit/s for one emulated bit/s: a 200 Gbit/s NIC becomes an 80 Mbit/s link."""

DEFAULT_QUEUE_PACKETS = 100

HTB_BURST_B = 15_000
"""Bucket of the shaper: ten frames, Mininet's own choice (`burst 15k`)."""

HTB_QUANTUM_B = 1_514
"""Explicit, because tc derives one from the rate and complains (or stalls a class) when it falls out of its range."""


class ShapingError(RuntimeError):
    """tc refused a rate; the message holds the interface and tc's own words."""


class ShapedIntf(TCIntf):
    """An interface behind an HTB class of exactly `rate_bps` and a FIFO of `queue_packets`.

    A TCIntf, so that Mininet's OVS switch applies it again after Open vSwitch has reset the queueing discipline.
    Hosts get their transmit offloads switched off: a userspace datapath would drop every TCP segment that lacks its
    checksum, and on any datapath a shaper should see frames of the size that the wire would carry.
    """

    def config(
        self,
        rate_bps: float | None = None,
        queue_packets: int = DEFAULT_QUEUE_PACKETS,
        **params: Any,
    ) -> dict[str, Any]:
        result: dict[str, Any] = super(TCIntf, self).config(**params)
        if rate_bps is not None:
            self._run(shaping_command(self.name, rate_bps, queue_packets))
        if isinstance(self.node, Host):
            self._run(f"ethtool -K {self.name} tx off tso off gso off >/dev/null")
        return result

    def _run(self, command: str) -> None:
        said = self.cmd(command)
        if said and said.strip():
            raise ShapingError(f"{self.name}: `{command}` said: {' '.join(said.split())}")


class ShapedLink(MininetLink):
    """A cable of two shaped directions: `rate_bps` both ways."""

    def __init__(self, node1: Node, node2: Node, **params: Any) -> None:
        MininetLink.__init__(self, node1, node2, intf=ShapedIntf, **{k: v for k, v in params.items() if k != "intf"})


def shaping_command(interface: str, rate_bps: float, queue_packets: int) -> str:
    """The tc command that shapes one interface; ShapingError when the rate or the queue is no positive number."""
    if not math.isfinite(rate_bps) or rate_bps < 8 or queue_packets < 1:
        raise ShapingError(f"{interface}: cannot shape to {rate_bps} bit/s with a queue of {queue_packets} packets")
    return (
        f"tc qdisc del dev {interface} root 2>/dev/null;"  # HTB cannot be changed in place
        f" tc qdisc add dev {interface} root handle 5: htb default 1"
        f" && tc class add dev {interface} parent 5: classid 5:1 htb"
        f" rate {round(rate_bps)}bit ceil {round(rate_bps)}bit"
        f" burst {HTB_BURST_B}b cburst {HTB_BURST_B}b quantum {HTB_QUANTUM_B}"
        f" && tc qdisc add dev {interface} parent 5:1 handle 10: pfifo limit {queue_packets}"
    )


class FatTreeTopo(Topo):
    """The fabric of a specification as Mininet data: hosts, switches with their dpid, shaped links with fixed ports.

    Keyword arguments are FabricSpec's fields plus `rate_scale` (real bit/s for one emulated bit/s) and `queue_packets`.
    FabricError for anything else.
    """

    fabric: Fabric

    def build(
        self,
        fabric: Fabric | None = None,
        rate_scale: float = DEFAULT_RATE_SCALE,
        queue_packets: int = DEFAULT_QUEUE_PACKETS,
        **spec: Any,
    ) -> None:
        if fabric is not None and not isinstance(fabric, Fabric):
            raise FabricError(f"fattree4: {fabric} is not a fabric (name the fields: fattree4,pods=2)")
        if not rate_scale > 0:
            raise FabricError(f"fattree4: rate_scale: {rate_scale} is not positive")
        self.fabric = fabric if fabric is not None else build_fattree(_spec_from(spec))
        for instance in self.fabric.instances:
            self.addHost(
                instance.name,
                ip=f"{instance_ip(instance)}/{HOST_NETMASK_BITS}",
                mac=instance_mac(instance),
            )
        for switch in self.fabric.switches:
            self.addSwitch(switch.name, dpid=f"{switch.dpid:016x}", protocols="OpenFlow13")
        for link in cables(self.fabric):
            self.addLink(
                link.source,
                link.target,
                port1=link.source_port,
                port2=link.target_port,
                cls=ShapedLink,
                rate_bps=link.capacity_bps / rate_scale,
                queue_packets=queue_packets,
            )


def cables(fabric: Fabric) -> list[Link]:
    """One directed link a cable: the upward one."""
    return [link for link in fabric.links if link.index % 2 == 0]


def interface_of(link: Link) -> str:
    """The interface that transmits onto a directed link, as Mininet names it."""
    return f"{link.source}-eth{link.source_port}"


def _spec_from(fields: dict[str, Any]) -> FabricSpec:
    try:
        return FabricSpec(**fields)
    except TypeError as problem:
        raise FabricError(f"fattree4: {str(problem).split('__init__() ')[-1]}") from None


topos = {"fattree4": FatTreeTopo}
