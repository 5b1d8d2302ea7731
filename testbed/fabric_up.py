"""Bring-up: a fabric of Mininet hosts and Open vSwitch switches, programmed by our controller, inside a sandbox.

Every wait has a deadline. Nothing is cleaned up after a failure: the kernel removes the sandbox.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.node import Host, OVSSwitch, RemoteController

from testbed.afxdp import AfxdpSwitch, check_machine, last_processor, prepare_daemon, reserve_processor
from testbed.child_python import child_python
from testbed.datapath import choose_datapath
from testbed.emulation import EmulationSpec
from testbed.errors import BrokenRunError, TestbedError
from testbed.forwarding_watch import check_forwarders, forwarders
from testbed.kernel import check_kernel
from testbed.machines import ClockOffset, Machine, start_machines
from testbed.oracle_client import OracleClient, OracleUnavailableError
from testbed.per_switch_daemon import PerSwitchDaemonSwitch
from testbed.placed_nodes import JoinedLink, PlacedHost, PlacedSwitch, check_placeable, placing
from testbed.sandbox import RUN_DIR, run
from testbed.switches import start_switches
from topologies import FABRIC_PREFIX, Fabric, Link, Shape, ShapingError, instance_ip, middle_of, partition
from topologies.mininet import FatTreeTopo, ShapedLink, SplitLink, interface_of, meter_of, shaping_together

ORACLE_SOCKET = RUN_DIR / "oracle.sock"
CONTROLLER_CONFIG = RUN_DIR / "controller.json"
CONTROLLER_LOG = RUN_DIR / "controller.log"
ALTO_LOG = RUN_DIR / "alto.log"
HOST_SETTINGS = (
    "net.ipv6.conf.all.disable_ipv6=1",
    "net.ipv4.tcp_no_metrics_save=1",
    "net.ipv4.tcp_slow_start_after_idle=0",
    "net.ipv4.tcp_tw_reuse=1",
    "net.ipv4.tcp_tso_rtt_log=0",
)
"""Of every host: no IPv6 neighbour discovery, no TCP metrics from earlier connections, no slow start of an idle
persistent connection, the same source port again in the next run, and no larger bursts to near peers: below some
milliseconds of round trip Linux lets a paced connection send up to 64 KB at once (ip-sysctl.rst, tcp_tso_rtt_log). Six
frames a burst, 120 ms apart, made the load of a link differ by 16 % from one tenth of a second to the next."""

PACED_SETTINGS = ("net.ipv4.tcp_pacing_ss_ratio=1000", "net.ipv4.tcp_pacing_ca_ratio=1000")
"""Of every host where streams are paced: a pace of up to ten windows a smoothed round trip, the most that Linux takes
(ip-sysctl.rst, tcp_pacing_ss_ratio), instead of two and 1.2. That round trip remembers congestion for many
acknowledgements, and a connection that had met some was slow for 50 to 200 ms on a network that was free again. What a
stream may send at most is SO_MAX_PACING_RATE."""

RATE_TOLERANCE = 1e-3
"""tc prints rates with at least four digits."""


class FabricUp:
    """A fabric that is up; `spawn` and `run_in` run processes in an instance's namespace. Made by `bring_up`."""

    def __init__(self, fabric: Fabric, spec: EmulationSpec, poll_s: float, ecmp_seed: int, machines: int = 1) -> None:
        self.fabric = fabric
        self.machine_of = partition(fabric, machines)
        self.machines = [Machine()]
        self.clocks = [ClockOffset()]
        self.spec = spec
        self.poll_s = poll_s
        self.ecmp_seed = ecmp_seed
        self.datapath, self.datapath_reason = spec.datapath, "specified"
        chosen, reason = choose_datapath(fabric.spec.switch_ports)
        if spec.datapath == chosen:
            self.datapath_reason = reason
        self.net: Any = None
        self.controller: subprocess.Popen[bytes] | None = None
        self.link_divisor = spec.link_divisor
        self.split = spec.datapath == "afxdp"

    def address(self, instance: int) -> str:
        return instance_ip(self.fabric.instances[instance])

    def enter(self, node: str) -> tuple[str, ...]:
        """What a command line begins with that is to run where a node of the fabric is."""
        machine = self.machines[self.machine_of[node]]
        if node in self.fabric.switch_by_name:
            return machine.enter
        # -a: attach to the namespaces of the host's shell, like Mininet's own popen
        return (*machine.enter, "mnexec", "-a", str(self.net[node].pid))

    def ahead_s(self, instance: int) -> float:
        """How far the monotonic clock of an instance's processes is ahead of this process's."""
        return self.clocks[self.machine_of[self.fabric.instances[instance].name]].ahead_s

    def spawn(self, instance: int, *command: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a process in an instance's network namespace with its output in a log file."""
        with log.open("ab") as sink:
            return subprocess.Popen(
                [*self.enter(self.fabric.instances[instance].name), *command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    def run_in(self, instance: int, *command: str, deadline_s: float = 30.0) -> str:
        """Run a command to its end in an instance's namespace and return its output."""
        return run(*self.enter(self.fabric.instances[instance].name), *command, deadline_s=deadline_s)

    def start_controller(self) -> None:
        CONTROLLER_CONFIG.write_text(
            json.dumps(
                {
                    "fabric": asdict(self.fabric.spec),
                    "rate_scale": self.link_divisor,
                    "ecmp": self.spec.ecmp,
                    "seed": self.ecmp_seed,
                    "poll_s": self.poll_s,
                    "oracle_socket": str(ORACLE_SOCKET),
                    "prometheus_port": self.spec.prometheus_port,
                }
            )
        )
        with CONTROLLER_LOG.open("ab") as log:
            self.controller = subprocess.Popen(
                child_python(
                    *("controller.launch", "--config", str(CONTROLLER_CONFIG)),
                    *("--port", str(self.spec.controller_port), "--address", self.machines[0].address),
                    *("--openflow", self.spec.controller),
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def start_alto(self, port: int) -> subprocess.Popen[bytes]:
        """Start an ALTO server beside the oracle, which also answers while the controller is away.

        TestbedError unless it listens.
        """
        with ALTO_LOG.open("ab") as log:
            process = subprocess.Popen(
                child_python("testbed.alto_gateway", "--config", str(CONTROLLER_CONFIG), "--port", str(port)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until_s = time.monotonic() + self.spec.bringup_deadline_s
        while process.poll() is None and time.monotonic() < until_s:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return process
            time.sleep(0.05)
        lines = ALTO_LOG.read_text(errors="replace").strip().splitlines()
        raise TestbedError(lines[-1] if lines else f"alto_port: {port}: its server did not start in time")

    def kill_controller(self) -> None:
        """End it as a crash does. The switches keep their rules."""
        if self.controller is not None:
            self.controller.kill()
            self.controller.wait()

    def shaper_of(self, link: Link) -> tuple[str, int | None]:
        """The interface that shapes a directed link, and the instance in whose namespace it is; None: the switches'."""
        if link.source in self.fabric.switch_by_name:
            return meter_of(link, self.fabric, self.split) or interface_of(link), None
        return interface_of(link), int(link.source[1:])

    def lossy_place(self, link: Link) -> tuple[str, int | None, bool]:
        """Where frames of a directed link can be lost: an interface, the instance in whose namespace it is (None: the
        switches'), and whether they are met where they arrive there, or where they leave."""
        if self.split:
            return middle_of(interface_of(link)), None, True
        return interface_of(link), None if link.source in self.fabric.switch_by_name else int(link.source[1:]), False

    def stop_controller(self) -> None:
        if self.controller is not None:
            self.controller.terminate()
            try:
                self.controller.wait(10)
            except subprocess.TimeoutExpired:
                self.controller.kill()
                self.controller.wait()

    def controller_error(self) -> str:
        """The last log line of a controller that has ended by itself; empty while it runs."""
        if self.controller is None or self.controller.poll() is None:
            return ""
        lines = CONTROLLER_LOG.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"controller ended with exit code {self.controller.returncode}"

    def wait_until_programmed(self, deadline_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Return when every switch holds its rules and every link is up and measured. TestbedError at the deadline,
        BrokenRunError when the controller or a switch has ended."""
        until_s, running = clock() + deadline_s, forwarders()
        state = "its oracle socket never answered"
        while clock() < until_s:
            if error := self.controller_error():
                raise BrokenRunError(error)
            check_forwarders(running)
            try:
                document = OracleClient(ORACLE_SOCKET).fetch(deadline_s=1.0)
            except OracleUnavailableError:
                time.sleep(0.05)
                continue
            if document["complete"] and not document["switches_missing"] and not document["links_down"]:
                return
            done, expected = document["switches_programmed"], document["switches_expected"]
            state = f"{done} of {expected} switches were programmed"
            if document["links_down"]:
                state += f", and {document['links_down'][0]} is down"
            time.sleep(0.05)
        raise TestbedError(f"the controller did not finish within {deadline_s:g} s: {state}")

    def check_rates(self) -> None:
        """TestbedError unless every interface of the fabric is shaped to the rate in the specification."""
        by_place: dict[tuple[str, ...], list[Link]] = {}
        for link in self.fabric.links:
            by_place.setdefault(self.enter(link.source), []).append(link)
        for enter, links in by_place.items():
            try:
                found_bps = self._shaped_bps(enter, links)
            except TestbedError:  # tc stops at an interface that is not there
                found_bps = []
            if len(found_bps) != len(links):
                found_bps = [max(self._shaped_bps(enter, [link]), default=0.0) for link in links]
            for link, bps in zip(links, found_bps, strict=True):
                wanted_bps = link.capacity_bps / self.link_divisor
                if abs(bps - wanted_bps) > RATE_TOLERANCE * wanted_bps:
                    found = f"{bps:.0f} bit/s" if bps else "nothing"
                    raise TestbedError(
                        f"{self.shaper_of(link)[0]}: shaped to {found} instead of {wanted_bps:.0f} bit/s"
                    )

    def _shaped_bps(self, enter: tuple[str, ...], links: Sequence[Link]) -> list[float]:
        """The rates that tc tells of links whose shapers are in one place; of one without a shaper none."""
        interfaces = " ".join(self.shaper_of(link)[0] for link in links)
        ask = f"printf 'class show dev %s classid 5:1\\n' {interfaces} | tc -batch -"
        return shaped_rates_bps(run(*enter, "sh", "-c", ask, deadline_s=self.spec.bringup_deadline_s))


def bring_up(
    fabric: Fabric,
    spec: EmulationSpec,
    *,
    poll_s: float,
    ecmp_seed: int,
    machines: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> FabricUp:
    """Start switches, controller and Mininet, and wait until every path works. To be called in a prepared sandbox.

    `machines`: how many to part the fabric among (`topologies.partition`), each with a pod at least.
    """
    check_kernel(spec)
    up = FabricUp(fabric, spec, poll_s, ecmp_seed, machines)
    if machines > 1:
        check_placeable(spec)
    if up.split:
        check_machine(fabric.spec.switch_ports)
        processor = last_processor()
    say("starting Open vSwitch")
    own = spec.vswitchd == "own"
    start_switches([switch.name for switch in fabric.switches] if own else [""])
    up.machines = start_machines(machines)
    up.clocks = [machine.clock_offset() for machine in up.machines]
    if up.split:
        prepare_daemon(processor)
    say("starting the controller")
    up.start_controller()
    delay_s = spec.link_delay_s(fabric.spec.hop_latency_s)
    shape = Shape(0.0, spec.queue_packets, spec.queue, spec.mark_packets, delay_s, spec.burst_ms / 1e3)
    say(f"building {len(fabric.instances)} hosts and {len(fabric.switches)} switches")
    kind = AfxdpSwitch if up.split else PerSwitchDaemonSwitch if own else OVSSwitch
    cable = SplitLink if up.split else JoinedLink if machines > 1 else ShapedLink
    setLogLevel("error")
    Mininet.inited = True  # do not let it change host-wide limits
    try:
        up.net = Mininet(
            topo=FatTreeTopo(fabric=fabric, rate_scale=up.link_divisor, shape=shape, cable=cable),
            host=placing(Host, PlacedHost, up),
            switch=placing(
                kind, PlacedSwitch, up, datapath="kernel" if spec.datapath == "kernel" else "user", batch=not own
            ),
            controller=lambda name: RemoteController(name, ip=up.machines[0].address, port=spec.controller_port),
            build=True,
            waitConnected=False,
        )
        with shaping_together(up.net.links, spec.bringup_deadline_s):
            up.net.start()
    except ShapingError as problem:
        raise TestbedError(str(problem)) from None
    for instance in fabric.instances:
        up.run_in(instance.index, "sysctl", "-eqw", *host_settings(spec))
        route = ("ip", "route", "replace", FABRIC_PREFIX, "dev", f"{instance.name}-eth0", "scope", "link")
        up.run_in(instance.index, *route, *route_options(spec))
    say("waiting for the controller")
    up.wait_until_programmed(spec.bringup_deadline_s)
    if spec.alto_port is not None:
        up.start_alto(spec.alto_port)
    up.check_rates()
    if up.split:
        reserve_processor(processor)
    return up


def host_settings(spec: EmulationSpec) -> list[str]:
    """The settings of every host, in the syntax of sysctl(8)."""
    settings = [*HOST_SETTINGS, *(PACED_SETTINGS if spec.paced else ())]
    if spec.limit_output_bytes is not None:
        settings.append(f"net.ipv4.tcp_limit_output_bytes={spec.limit_output_bytes}")
    return settings


def route_options(spec: EmulationSpec) -> list[str]:
    """TCP options on every host's route into the fabric, for both ends of a connection (ip-route(8))."""
    options = ["rto_min", f"{spec.rto_min_ms}ms", "initcwnd", str(spec.initial_window_packets)]
    if spec.congestion_control == "dctcp":
        options += ["congctl", "dctcp"]  # the receiver's acknowledgements differ as well (RFC 8257)
    if spec.queue == "ecn":
        options += ["features", "ecn"]
    return options


def shaped_rates_bps(shown: str) -> list[float]:
    """The rates of the HTB classes 5:1 in the output of `tc class show`, bit/s."""
    found = re.findall(r"class htb 5:1 root .*?rate (\d+)([KMGT]?)bit ", shown)
    return [int(digits) * 1000.0 ** " KMGT".index(unit or " ") for digits, unit in found]
