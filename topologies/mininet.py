"""The fat-tree as a `mininet.topo.Topo`, with links of exactly the specified rate.

The only module of this package that imports Mininet. It loads in plain Mininet too:

    mn --custom topologies/mininet.py --topo fattree4,pods=2,rate_scale=5000 --switch ovs,datapath=user ...

Mininet's own `bw=` is not used: above 1000 Mbit/s it is ignored with a warning and the link is left unlimited.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from subprocess import TimeoutExpired, run
from typing import Any

from mininet.link import Intf, TCIntf
from mininet.link import Link as MininetLink
from mininet.node import Host, Node, OVSSwitch
from mininet.topo import Topo
from mininet.util import errRun

# `mn --custom FILE` executes this file outside its package: make the package importable from where the file stands.
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(sys._getframe().f_code.co_filename)))
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)

from topologies.addressing import HOST_NETMASK_BITS, instance_ip, instance_mac  # noqa: E402
from topologies.fabric import Fabric, FabricError, FabricSpec, Link  # noqa: E402
from topologies.fattree import build_fattree  # noqa: E402
from topologies.shaping import (  # noqa: E402
    DEFAULT_QUEUE_PACKETS,
    Shape,
    ShapingError,
    handover_lines,
    middle_of,
    queue_length_lines,
    queues_of_cable,
    shaping_command,
    shaping_lines,
)

DEFAULT_RATE_SCALE = 5000.0
"""Real bit/s for one emulated bit/s: a 200 Gbit/s NIC becomes a 40 Mbit/s link."""


class ShapedIntf(TCIntf):
    """An interface whose egress is shaped by its `shape`.

    A TCIntf, so that Mininet's OVS switch configures it again after Open vSwitch has reset the queueing discipline.
    Until then a port of such a switch is not shaped: a fair port is a class for each queue, and for each the
    kernel walks a list of all there are.
    Hosts get their transmit offloads switched off: a userspace datapath would drop every TCP segment that lacks its
    checksum, and on any datapath a shaper must count frames of the size that the wire would carry.
    """

    _configured_before = False
    is_shaped_with_others = False
    """Whether `shaping_together` will shape it."""

    def config(self, shape: Shape | None = None, **params: Any) -> dict[str, Any]:
        result: dict[str, Any] = super(TCIntf, self).config(**params)
        will_be_configured_again = isinstance(self.node, OVSSwitch) and not self._configured_before
        self._configured_before = True
        if shape is not None and not will_be_configured_again and not self.is_shaped_with_others:
            self._run(shaping_command(self.name, shape))
        if isinstance(self.node, Host):
            self._run(f"ethtool -K {self.name} tx off tso off gso off >/dev/null")
        return result

    def _run(self, command: str) -> None:
        output = self.cmd(command)
        if output and output.strip():
            raise ShapingError(f"{self.name}: `{command}`: {' '.join(output.split())}")


class ShapedLink(MininetLink):
    """A cable of two shaped directions: `shape` both ways."""

    def __init__(self, node1: Node, node2: Node, **params: Any) -> None:
        MininetLink.__init__(self, node1, node2, intf=ShapedIntf, **{k: v for k, v in params.items() if k != "intf"})

    @property
    def switch_ports(self) -> list[ShapedIntf]:
        """Its ends that are at a switch."""
        return [end for end in (self.intf1, self.intf2) if isinstance(end.node, OVSSwitch)]


class SplitLink(MininetLink):
    """A link between ports of AF_XDP: two cables, and between their middles the shapers of both directions.

    A host shapes what it sends in its own namespace, as on any link, so that its TCP sees the queue. The middles carry
    nothing before `shaping_together` has joined them.
    """

    def __init__(self, node1: Node, node2: Node, shape: Shape, **params: Any) -> None:
        MininetLink.__init__(self, node1, node2, **{k: v for k, v in params.items() if k != "intf"})
        ends = (self.intf1, self.intf2)
        self.offloads_off = [_offloads_off(name) for end in ends for name in (end.name, middle_of(end.name))]
        self.ip_lines = [f"link set dev {middle_of(end.name)} up" for end in ends]
        self.tc_lines = []
        for one, other in (ends, ends[::-1]):
            self.tc_lines += handover_lines(middle_of(one.name), middle_of(other.name))
            if isinstance(one.node, Host):
                self.offloads_off.remove(_offloads_off(one.name))
                _run_on(one, f"{_offloads_off(one.name)} && {shaping_command(one.name, shape)}")
            else:
                self.ip_lines += queue_length_lines(middle_of(other.name), shape)
                self.tc_lines += shaping_lines(middle_of(other.name), shape)

    @classmethod
    def makeIntfPair(
        cls,
        intfname1: str,
        intfname2: str,
        addr1: str | None = None,
        addr2: str | None = None,
        node1: Node = None,
        node2: Node = None,
        deleteIntfs: bool = True,
    ) -> None:
        """Each end with its middle, which stays with the switches wherever the end goes."""
        commands = []
        for name, address, node in ((intfname1, addr1, node1), (intfname2, addr2, node2)):
            place = f" netns {node.pid}" if isinstance(node, Host) else ""
            given = f" address {address}" if address else ""
            one_queue = "numtxqueues 1 numrxqueues 1"
            middle = f"ip link add {middle_of(name)} {one_queue} type veth"
            commands.append(f"{middle} peer name {name}{given} {one_queue}{place}")
        _run(f"{intfname1}<->{intfname2}", " && ".join(commands))


@contextmanager
def shaping_together(links: Sequence[MininetLink], deadline_s: float) -> Iterator[None]:
    """Shape the switches' ports of all `ShapedLink`s and `SplitLink`s by a few processes; other links do it themselves.

    The switches are to be started within this context. Middles of split links are joined and shaped beside that.
    Ports that Open vSwitch resets as it opens them are shaped at the end. With processes for each port it took
    several times as long: each of them reads a list of all interfaces, and so does Open vSwitch when one has changed.
    ShapingError with what a command that fails says, or when all is not done within `deadline_s`.
    """
    until_s = time.monotonic() + deadline_s
    ports = [port for link in links if isinstance(link, ShapedLink) for port in link.switch_ports]
    shapes = [(port.name, port.params["shape"]) for port in ports]
    _batch("ip", [line for shape in shapes for line in queue_length_lines(*shape)], until_s)
    with ThreadPoolExecutor(1) as beside:
        joining = beside.submit(_join, [link for link in links if isinstance(link, SplitLink)], until_s)
        try:
            for port in ports:
                port.is_shaped_with_others = True
            yield
        finally:
            for port in ports:
                port.is_shaped_with_others = False
        joining.result()
    _batch("tc", [line for shape in shapes for line in shaping_lines(*shape)], until_s)


def _join(links: Sequence[SplitLink], until_s: float) -> None:
    offloads = "".join(f"{line} || {{ echo '{link}' >&2; exit 1; }}\n" for link in links for line in link.offloads_off)
    if offloads:
        _execute(["sh"], offloads, until_s)
    _batch("ip", [line for link in links for line in link.ip_lines], until_s)
    _batch("tc", [line for link in links for line in link.tc_lines], until_s)


def _batch(tool: str, lines: Sequence[str], until_s: float) -> None:
    """Have `ip` or `tc` read these lines, in the namespace of the switches. ShapingError names the line that failed."""
    if not lines:
        return
    try:
        _execute([tool, "-batch", "-"], "\n".join(lines) + "\n", until_s)
    except ShapingError as problem:
        at = re.search(r"Command failed -:(\d+)", str(problem))
        raise ShapingError(f"`{tool} {lines[int(at[1]) - 1]}`: {problem}" if at else str(problem)) from None


def _execute(command: Sequence[str], text: str, until_s: float) -> None:
    left_s = max(until_s - time.monotonic(), 0.0)
    try:
        done = run(command, input=text, capture_output=True, text=True, timeout=left_s, check=False)
    except TimeoutExpired:
        raise ShapingError("the ports were not shaped in time; raise emulation.bringup_deadline_s") from None
    if done.returncode:  # without an error tc may say that interfaces appeared while it looked
        raise ShapingError(f"joining and shaping links said: {' '.join((done.stderr + done.stdout).split())}")


def _offloads_off(interface: str) -> str:
    return f"ethtool -K {interface} tx off rx off tso off gso off gro off >/dev/null"


def _run(what: str, command: str) -> None:
    """In the namespace of the switches. ShapingError with what is said."""
    out, said, code = errRun(command, shell=True)
    if code or said.strip():
        raise ShapingError(f"{what}: `{command}` said: {' '.join((said or out).split()) or code}")


def _run_on(interface: Intf, command: str) -> None:
    """In the namespace of an interface's node."""
    if said := interface.node.cmd(command).strip():
        raise ShapingError(f"{interface.name}: `{command}` said: {' '.join(said.split())}")


class FatTreeTopo(Topo):
    """The fabric of a specification as Mininet data: hosts, switches with their dpid, shaped links with fixed ports.

    Keyword arguments are FabricSpec's fields plus `rate_scale` (real bit/s for one emulated bit/s) and `queue_packets`;
    from Python also a whole `fabric`, a `shape` whose queue and delay every link is to have, and the class of every
    link, `cable`. FabricError for anything else.
    """

    fabric: Fabric

    def build(
        self,
        fabric: Fabric | None = None,
        rate_scale: float = DEFAULT_RATE_SCALE,
        queue_packets: int = DEFAULT_QUEUE_PACKETS,
        shape: Shape | None = None,
        cable: type[MininetLink] = ShapedLink,
        **spec: Any,
    ) -> None:
        if fabric is not None and not isinstance(fabric, Fabric):
            raise FabricError(f"fattree4: {fabric} is not a fabric (name the fields: fattree4,pods=2)")
        if not rate_scale > 0:
            raise FabricError(f"fattree4: rate_scale: {rate_scale} is not positive")
        shape = shape or Shape(0.0, queue_packets)
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
                cls=cable,
                shape=replace(
                    shape,
                    rate_bps=link.capacity_bps / rate_scale,
                    queues=queues_of_cable(self.fabric, link),
                ),
            )


def cables(fabric: Fabric) -> list[Link]:
    """The upward link of each cable, in the order of `fabric.links`."""
    return [link for link in fabric.links if link.index % 2 == 0]


def interface_of(link: Link) -> str:
    """The interface that transmits onto a directed link, as Mininet names it."""
    return f"{link.source}-eth{link.source_port}"


def meter_of(link: Link, fabric: Fabric, split: bool) -> str | None:
    """The interface beside the switches that sends all that a directed link carries, behind its shaper; None on a link
    from a host that is not split, whose sender is in the host's namespace."""
    if split:
        return middle_of(f"{link.target}-eth{link.target_port}")
    return interface_of(link) if link.source in fabric.switch_by_name else None


def _spec_from(fields: dict[str, Any]) -> FabricSpec:
    try:
        return FabricSpec(**fields)
    except TypeError as problem:
        raise FabricError(f"fattree4: {str(problem).split('__init__() ')[-1]}") from None


topos = {"fattree4": FatTreeTopo}
