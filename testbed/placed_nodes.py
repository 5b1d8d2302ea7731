"""Mininet's nodes and links where a fabric has several machines: its Cluster Edition, with another way to a machine.

Cluster Edition (`mininet.examples.cluster`) runs a remote node's shell by ssh and makes GRE or ssh tunnels. Here the
words of `Machine.enter` take ssh's place, and a link that is cut is a VXLAN of two ends (RFC 7348), shaped before the
tunnel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count, groupby
from operator import attrgetter
from typing import Any, Protocol

from mininet.examples.cluster import RemoteLink, RemoteMixin
from mininet.node import Host, Node, OVSSwitch

from testbed.emulation import EmulationSpec
from testbed.errors import TestbedError
from testbed.machines import DRIVER_ADDRESS, JOINT, OFFLOADS_OFF, Machine
from testbed.sandbox import run
from topologies import ShapingError
from topologies.mininet import ShapedIntf

VXLAN_PORT = 4789
"""Of UDP (RFC 7348)."""

MTU_B = 1_500


class Placement(Protocol):
    """The machines, and the one of every node by its name (`testbed.fabric_up.FabricUp`)."""

    machines: list[Machine]
    machine_of: Mapping[str, int]


def check_placeable(spec: EmulationSpec) -> None:
    """TestbedError, one line with a remedy, unless the switches of such an emulation can be on several machines."""
    if spec.datapath == "afxdp" or spec.vswitchd == "own":
        field = "datapath=afxdp" if spec.datapath == "afxdp" else "vswitchd=own"
        raise TestbedError(f"emulation.{field}: not on several machines; use emulation.datapath=user")


def placing(own: type[Node], placed: type[PlacedNode], up: Placement, **given: Any) -> Callable[..., Node]:
    """What Mininet calls with a node's name: `own` on the driver's machine, `placed` on another."""

    def node(name: str, **params: Any) -> Node:
        machine = up.machines[up.machine_of[name]]
        return placed(name, machine, **given, **params) if machine.enter else own(name, **given, **params)

    return node


class PlacedNode(RemoteMixin):
    """A node on another machine than the driver's."""

    def __init__(self, name: str, machine: Machine, **given: Any) -> None:
        self.machine = machine
        super().__init__(name, server=machine.name, serverIP=machine.address, user="root", **given)

    def _popen(self, cmd: Sequence[str], **given: Any) -> Any:
        options = {name: value for name, value in given.items() if name not in ("sudo", "tt", "mncmd")}
        return Node._popen(self, [*self.machine.enter, *cmd], process_group=0, **options)


class PlacedHost(PlacedNode, Host):
    """A host there."""


class PlacedSwitch(PlacedNode, OVSSwitch):
    """A switch of the Open vSwitch there."""

    @classmethod
    def batchStartup(cls, switches: Sequence[PlacedSwitch], **_: Any) -> Sequence[PlacedSwitch]:
        """A command line for each machine, not through the shell of a switch: a terminal takes 4095 characters."""
        by_machine = attrgetter("machine.name")
        for _name, group in groupby(sorted(switches, key=by_machine), by_machine):
            there = tuple(group)
            enter = there[0].machine.enter
            OVSSwitch.batchStartup(there, run=lambda line, enter=enter, **_: run(*enter, "sh", "-c", line))
        return switches


class JoinedLink(RemoteLink):
    """A cable of two shaped directions, in a tunnel where its ends are on two machines."""

    _numbers = count(1)

    def __init__(self, node1: Node, node2: Node, **params: Any) -> None:
        super().__init__(node1, node2, intf=ShapedIntf, **{k: v for k, v in params.items() if k != "intf"})

    def makeTunnel(
        self,
        node1: Node,
        node2: Node,
        intfname1: str,
        intfname2: str,
        addr1: str | None = None,
        addr2: str | None = None,
    ) -> None:
        """Both ends of a VXLAN that no other link uses. ShapingError with what a command says."""
        number = next(self._numbers)
        for node, name, address, peer in ((node1, intfname1, addr1, node2), (node2, intfname2, addr2, node1)):
            local, remote = (getattr(end, "serverIP", DRIVER_ADDRESS) for end in (node, peer))
            said = node.cmd(tunnel_command(name, number, local, remote, address))
            if said.strip():
                raise ShapingError(f"{name}: the tunnel's end said: {' '.join(said.split())}")


def tunnel_command(name: str, number: int, local: str, remote: str, address: str | None = None) -> str:
    """The shell command that makes one end of a tunnel. Refused where `MTU_B` does not fit the network."""
    given = f"address {address} " if address else ""
    ends = f"local {local} remote {remote} dev {JOINT} dstport {VXLAN_PORT} nolearning noudpcsum"
    make = f"ip link add {name} {given}mtu {MTU_B} type vxlan id {number} {ends}"
    return f"{make} && ethtool -K {name} {' '.join(OFFLOADS_OFF)} >/dev/null"
