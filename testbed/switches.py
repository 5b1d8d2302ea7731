"""Open vSwitch inside the sandbox: its own database and daemon, and which datapath it can use."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from testbed.sandbox import run

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
DATABASE = "/etc/openvswitch/conf.db"
KERNEL_MODULE = Path("/sys/module/openvswitch")


Datapath = Literal["user", "kernel"]


def datapath_in_force() -> tuple[Datapath, str]:
    """`kernel` or `user`, as Mininet names them, and the reason.

    The module is used where it is loaded, and never loaded by us: that is for whoever owns the machine (`vm/guest.sh`).
    """
    if KERNEL_MODULE.exists():
        return "kernel", "the openvswitch kernel module is loaded"
    return "user", "the openvswitch kernel module is not loaded, so switches run in userspace"


def start_switches() -> None:
    """Start ovsdb-server and ovs-vswitchd on the sandbox's private directories. TestbedError when either refuses."""
    run("ovsdb-tool", "create", DATABASE, SCHEMA)
    run(
        "ovsdb-server",
        DATABASE,
        "--remote=punix:/run/openvswitch/db.sock",
        "--remote=db:Open_vSwitch,Open_vSwitch,manager_options",
        "--pidfile",
        "--detach",
        "--no-chdir",
        "--log-file",
        "-vconsole:off",
    )
    run("ovs-vsctl", "--no-wait", "init")
    run("ovs-vswitchd", "--pidfile", "--detach", "--no-chdir", "--log-file", "-vconsole:off")


def show_datapaths() -> str:
    """What `ovs-appctl dpif/show` prints."""
    return run("ovs-appctl", "dpif/show")
