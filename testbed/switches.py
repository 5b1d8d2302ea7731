"""Open vSwitch inside the sandbox: its database and its daemon, or one of each for every switch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import TestbedError
from testbed.sandbox import run
from testbed.scheduling_priority import set_session_priority

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
DATABASE = "/etc/openvswitch/conf.db"
PRIORITY = -10
"""Nice value of the process that forwards packets, and of its session; ovs-ctl(8) uses the same."""

HUGE_PAGES = "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"
"""Where the kernel has transparent huge pages on request (glibc's manual, Memory Allocation Tunables): a port of AF_XDP
is 64 MB, which Open vSwitch clears as it opens it (docs/explanation/cost.md)."""

BACKGROUND = ("--detach", "--no-chdir", "--log-file", "-vconsole:off")


@dataclass(frozen=True)
class SwitchDaemon:
    """One ovs-vswitchd with its database, for the switch `name`, or for all switches if that is empty."""

    name: str = ""

    @property
    def database(self) -> str:
        """The address for ovs-vsctl (`--db`)."""
        return f"unix:{self._run_file}db.sock"

    @property
    def _run_file(self) -> str:
        return f"/run/openvswitch/{self.name}." if self.name else "/run/openvswitch/"

    @property
    def pid_file(self) -> Path:
        """The file with the pid of ovs-vswitchd."""
        return Path(
            f"/run/openvswitch/ovs-vswitchd.{self.name}.pid" if self.name else "/run/openvswitch/ovs-vswitchd.pid"
        )

    def commands(self) -> list[list[str]]:
        """The commands that start it, in order."""
        stored = f"/etc/openvswitch/{self.name}.db" if self.name else DATABASE
        server, daemon = [*BACKGROUND], [*BACKGROUND]
        if self.name:
            base = f"/run/openvswitch/ovs-vswitchd.{self.name}"
            server += [f"--pidfile={self._run_file}db.pid", f"--unixctl={self._run_file}db.ctl"]
            # Two daemons with the usual datapath type would both create the network device `ovs-netdev`. The type
            # `dummy` is the same code without that device, which is not used here.
            daemon += ["--enable-dummy", f"--pidfile={self.pid_file}", f"--unixctl={base}.ctl", self.database]
        else:
            server += ["--pidfile", "--remote=db:Open_vSwitch,Open_vSwitch,manager_options"]
            daemon += ["--pidfile"]
        return [
            ["ovsdb-tool", "create", stored, SCHEMA],
            ["ovsdb-server", stored, f"--remote=p{self.database}", *server],
            ["ovs-vsctl", f"--db={self.database}", "--no-wait", "init"],
            ["env", HUGE_PAGES, "nice", "-n", str(PRIORITY), "ovs-vswitchd", *daemon],
        ]


def start_switches(names: Sequence[str] = ("",)) -> None:
    """Start ovsdb-server and ovs-vswitchd in the sandbox's private directories, once for each name.

    ovs-vswitchd gets a higher scheduling priority than other sessions. TestbedError when a command fails.
    """
    for name in names:
        daemon = SwitchDaemon(name)
        for command in daemon.commands():
            run(*command)
        try:
            set_session_priority(int(daemon.pid_file.read_text(encoding="ascii")), PRIORITY)
        except OSError as problem:
            raise TestbedError(f"cannot raise the scheduling priority of ovs-vswitchd: {problem}") from None
