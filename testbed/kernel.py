"""The kernel features that an emulation needs, by field, and checks for them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from testbed.datapath import KERNEL_MODULE
from testbed.emulation import EmulationSpec
from testbed.errors import TestbedError
from testbed.sandbox import run


@dataclass(frozen=True)
class Feature:
    """An optional kernel module: the field and value that need it, whether a specification does, and a check for it."""

    module: str
    field: str
    needed_by: Callable[[EmulationSpec], bool]
    present: Callable[[], bool]


def _queue_discipline(*words: str) -> Callable[[], bool]:
    """Whether tc can set it on the loopback of a new namespace; that also loads its module if there is one."""

    def present() -> bool:
        return _works("tc", "qdisc", "add", "dev", "lo", "root", *words)

    return present


def _packet_filter() -> bool:
    """Whether a classic BPF program (here one that matches nothing) can classify packets."""
    root, program = "tc qdisc add dev lo root handle 5: htb", "1,6 0 0 0"
    return _works("sh", "-c", f"{root} && tc filter add dev lo parent 5: protocol all bpf bytecode '{program}'")


def _works(*command: str) -> bool:
    try:
        run("unshare", "--net", *command)
    except TestbedError:
        return False
    return True


def _congestion_control(name: str) -> Callable[[], bool]:
    def present() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
            try:
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
            except OSError:
                return False
        return True

    return present


FEATURES = (
    Feature("openvswitch", "datapath=kernel", lambda spec: spec.datapath == "kernel", KERNEL_MODULE.exists),
    Feature(
        "sch_netem",
        "link_delay_ms",
        lambda spec: bool(spec.link_delay_ms or spec.hop_latency),
        _queue_discipline("netem", "delay", "1ms"),
    ),
    Feature(
        "sch_red",
        "queue=red or ecn",
        lambda spec: spec.queue in ("red", "ecn"),
        _queue_discipline("red", "limit", "150000", "min", "15000", "max", "45000", "avpkt", "1500"),
    ),
    Feature("cls_bpf", "queue=fair", lambda spec: spec.queue == "fair", _packet_filter),
    *(
        Feature(
            f"tcp_{name}",
            f"congestion_control={name}",
            lambda spec, name=name: spec.congestion_control == name,  # type: ignore[misc]
            _congestion_control(name),
        )
        for name in ("bbr", "dctcp")
    ),
)
"""The default emulation needs some of them (docs/explanation/fidelity.md), other options the rest."""


def check_kernel(spec: EmulationSpec) -> None:
    """TestbedError unless the kernel has all that the emulation needs. Needs root."""
    for feature in FEATURES:
        if feature.needed_by(spec) and not feature.present():
            raise TestbedError(
                f"emulation.{feature.field}: this kernel has no module {feature.module}, or it is not loaded:"
                f" `modprobe {feature.module}`, or use the virtual machine (docs/how-to/virtual-machine.md)"
            )
