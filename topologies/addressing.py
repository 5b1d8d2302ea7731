"""The address plan: an instance's IPv4 and MAC address encode its place in the fabric.

10.POD.RACK.(SERVER * 16 + SLOT + 1), so that a pod is a /16, a rack a /24 and a server a /28: every switch forwards by
longest prefix alone. MAC addresses are locally administered (02:...) and carry the same four numbers.
"""

from __future__ import annotations

from topologies.fabric import Instance

FABRIC_PREFIX = "10.0.0.0/8"
HOST_NETMASK_BITS = 8


def instance_ip(instance: Instance) -> str:
    """IPv4 address of an instance, without a prefix length."""
    return f"10.{instance.pod}.{instance.rack}.{instance.server * 16 + instance.slot + 1}"


def instance_mac(instance: Instance) -> str:
    """MAC address of an instance."""
    return f"02:00:{instance.pod:02x}:{instance.rack:02x}:{instance.server:02x}:{instance.slot:02x}"


def server_prefix(pod: int, rack: int, server: int) -> str:
    """The /28 of one server's instances; rack and server count within their parent."""
    return f"10.{pod}.{rack}.{server * 16}/28"


def rack_prefix(pod: int, rack: int) -> str:
    """The /24 of one rack's instances."""
    return f"10.{pod}.{rack}.0/24"


def pod_prefix(pod: int) -> str:
    """The /16 of one pod's instances."""
    return f"10.{pod}.0.0/16"
