"""Open vSwitch inside the sandbox: its own database and daemon, and which datapath it can use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from testbed.errors import TestbedError
from testbed.sandbox import run
from testbed.scheduling_priority import set_session_priority

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
DATABASE = "/etc/openvswitch/conf.db"
PRIORITY = -10
"""Nice value of the process that forwards packets, and of its session: what ovs-ctl(8) starts it with."""

BACKGROUND = ("--detach", "--no-chdir", "--log-file", "-vconsole:off")
KERNEL_MODULE = Path("/sys/module/openvswitch")


Datapath = Literal["user", "kernel"]


def datapath_in_force() -> tuple[Datapath, str]:
    """`kernel` or `user`, as Mininet names them, and the reason.

    The module is used where it is loaded, and never loaded by us: that is for whoever owns the machine (`vm/guest.sh`).
    """
    if KERNEL_MODULE.exists():
        return "kernel", "the openvswitch kernel module is loaded"
    return "user", "the openvswitch kernel module is not loaded, so switches run in userspace"


@dataclass(frozen=True)
class SwitchDaemon:
    """One ovs-vswitchd with its database: of every switch, its files where the tools look, or of the switch `name`."""

    name: str = ""

    @property
    def database(self) -> str:
        """Where ovs-vsctl is to connect (`--db`)."""
        return f"unix:{self._run_file}db.sock"

    @property
    def _run_file(self) -> str:
        return f"/run/openvswitch/{self.name}." if self.name else "/run/openvswitch/"

    @property
    def pid_file(self) -> Path:
        """Where ovs-vswitchd writes down its number."""
        return Path(
            f"/run/openvswitch/ovs-vswitchd.{self.name}.pid" if self.name else "/run/openvswitch/ovs-vswitchd.pid"
        )

    def commands(self) -> list[list[str]]:
        """What starts it, in order."""
        stored = f"/etc/openvswitch/{self.name}.db" if self.name else DATABASE
        server, daemon = [*BACKGROUND], [*BACKGROUND]
        if self.name:
            base = f"/run/openvswitch/ovs-vswitchd.{self.name}"
            server += [f"--pidfile={self._run_file}db.pid", f"--unixctl={self._run_file}db.ctl"]
            # Its own datapath type: two of the usual one would both want the network device `ovs-netdev`. The `dummy`
            # one is the same code without that device, which nothing here uses.
            daemon += ["--enable-dummy", f"--pidfile={self.pid_file}", f"--unixctl={base}.ctl", self.database]
        else:
            server += ["--pidfile", "--remote=db:Open_vSwitch,Open_vSwitch,manager_options"]
            daemon += ["--pidfile"]
        return [
            ["ovsdb-tool", "create", stored, SCHEMA],
            ["ovsdb-server", stored, f"--remote=p{self.database}", *server],
            ["ovs-vsctl", f"--db={self.database}", "--no-wait", "init"],
            ["nice", "-n", str(PRIORITY), "ovs-vswitchd", *daemon],
        ]


def start_switches(names: Sequence[str] = ("",)) -> None:
    """Start ovsdb-server and ovs-vswitchd on the sandbox's private directories, once for each name.

    What forwards packets comes before all else on the machine. TestbedError when one refuses.
    """
    for name in names:
        daemon = SwitchDaemon(name)
        for command in daemon.commands():
            run(*command)
        try:
            set_session_priority(int(daemon.pid_file.read_text(encoding="ascii")), PRIORITY)
        except OSError as problem:
            raise TestbedError(f"ovs-vswitchd gets no precedence: {problem}") from None


def show_datapaths() -> str:
    """What `ovs-appctl dpif/show` prints."""
    return run("ovs-appctl", "dpif/show")
