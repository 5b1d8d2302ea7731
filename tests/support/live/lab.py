"""A fabric that is up, and what a measurement on it needs: workers on any instance, and the switches' port counters.

Used inside a sandbox by `measurements`; knows no fact that is to be proved.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from testbed.fabric_up import FabricUp
from testbed.sandbox import RUN_DIR, run
from tests.support.workers_driver import Event, Worker

DECODE_PORT = 7001
SINK_PORT = 7002
STEP_S = 0.001
DEADLINE_S = 60.0

PORT = re.compile(r"port +(\d+): rx pkts=(\d+), bytes=(\d+),.*?tx pkts=(\d+), bytes=(\d+),", re.DOTALL)
"""One port in what `ovs-ofctl dump-ports` prints (ovs-ofctl(8))."""


@dataclass(frozen=True)
class Count:
    """Bytes (Ethernet header included, checksum not) and frames."""

    bytes: int
    packets: int

    def __sub__(self, before: Count) -> Count:
        return Count(self.bytes - before.bytes, self.packets - before.packets)


Counts = dict[str, Count]


class Lab:
    """One fabric with its workers, each started when first asked for."""

    def __init__(self, up: FabricUp) -> None:
        self.up = up
        self.fabric = up.fabric
        self._workers: dict[tuple[str, int], Worker] = {}
        self._flows = 0
        self._requests = 0

    def pair_of_tier(self, tier: int) -> tuple[int, int]:
        """The first instance and the first of those that it has at that distance."""
        return 0, next(other for other in range(1, len(self.fabric.instances)) if self.fabric.tier(0, other) == tier)

    def cross_pod_pairs(self) -> list[tuple[int, int]]:
        """Every instance of the first half of the pods with one of the second half."""
        half = len(self.fabric.instances) // 2
        return [(source, source + half) for source in range(half)]

    def path_rate_bps(self, source: int, target: int) -> float:
        """The rate of the narrowest link of a path, as emulated."""
        links = self.fabric.paths(source, target)[0]
        return min(self.fabric.links[link].capacity_bps for link in links) / self.up.link_divisor

    def worker(self, role: str, instance: int) -> Worker:
        """The worker of a role on an instance."""
        if (role, instance) not in self._workers:
            name = self.fabric.instances[instance].name
            options = {
                "prefill": (),
                "decode": ("--port", str(DECODE_PORT), "--step-table", f"1:{STEP_S}"),
                "background": ("--port", str(SINK_PORT)),
            }[role]
            enter = self.up.enter(name)
            address = ("--address", self.up.address(instance))
            self._workers[role, instance] = Worker(RUN_DIR, role, name, *address, *options, command=enter)
        return self._workers[role, instance]

    def start_transfer(self, source: int, target: int, size_bytes: int, stripes: int) -> int:
        """Send a blob; the number by which `end_transfer` knows it."""
        prefill, decode = self.worker("prefill", source), self.worker("decode", target)
        self._requests += 1
        announced = {"request_id": self._requests, "bytes": size_bytes, "stripes": stripes}
        decode.tell("expect", **announced, context_tokens=10, output_tokens=1)
        prefill.tell("transfer", **announced, address=(self.up.address(target), DECODE_PORT), deadline_s=DEADLINE_S)
        return self._requests

    def end_transfer(self, source: int, target: int, request: int) -> tuple[Event, Event]:
        """What both ends say of a transfer once it is over."""
        sent = self.worker("prefill", source).wait_for("transferred", request_id=request)
        return sent, self.worker("decode", target).wait_for("received", request_id=request)

    def start_flow(self, source: int, target: int, **options: Any) -> int:
        """Start background load; the number by which `stop_flow` knows it."""
        self.worker("background", target)
        self._flows += 1
        address = (self.up.address(target), SINK_PORT)
        wanted = {"connections": 1, "rate_bps": None, "protocol": "tcp", **options}
        self.worker("background", source).tell("flow_start", flow_id=self._flows, address=address, **wanted)
        return self._flows

    def stop_flow(self, source: int, flow: int) -> Event:
        """Stop it and return what its source says."""
        self.worker("background", source).tell("flow_stop", flow_id=flow)
        return self.worker("background", source).wait_for("flow_stopped", flow_id=flow)

    def received_bytes(self, instance: int) -> int:
        """All that an instance's sink has taken so far."""
        sink = self.worker("background", instance)
        sink.tell("report")
        received: int = sink.wait_for("report")["received_bytes"]
        return received

    def counts(self) -> Counts:
        """Every directed link's count, by the counters of the switch that transmits onto it (or first receives it)."""
        ports = self.ports()
        return {
            link.name: ports[link.source, link.source_port][1]
            if link.source in self.fabric.switch_by_name
            else ports[link.target, link.target_port][0]
            for link in self.fabric.links
        }

    def ports(self) -> dict[tuple[str, int], tuple[Count, Count]]:
        """What every port of every switch has received and sent."""
        ports: dict[tuple[str, int], tuple[Count, Count]] = {}
        for switch in self.fabric.switches:
            there = self.up.enter(switch.name)
            shown = run(*there, "ovs-ofctl", "-O", "OpenFlow13", "--no-names", "dump-ports", switch.name)
            for port, rx_packets, rx_bytes, tx_packets, tx_bytes in (map(int, found) for found in PORT.findall(shown)):
                ports[switch.name, port] = Count(rx_bytes, rx_packets), Count(tx_bytes, tx_packets)
        return ports

    def counts_at_rest(self) -> Counts:
        """The counts once nothing moves any more."""
        last = self.counts()
        for _ in range(50):
            time.sleep(0.05)
            before, last = last, self.counts()
            if before == last:
                return last
        raise TimeoutError("the fabric does not come to rest")

    def moved(self, work: Callable[[], Any]) -> tuple[Counts, Any]:
        """What every link of a resting fabric carries until it rests after some work, and what the work returned."""
        before = self.counts()
        result = work()
        after = self.counts_at_rest()
        return {name: after[name] - before[name] for name in after}, result


def wait_until(true: Callable[[], bool], deadline_s: float, what: str) -> float:
    """Seconds until a condition held; TimeoutError with `what` was waited for."""
    started_s = time.monotonic()
    while not true():
        if time.monotonic() - started_s > deadline_s:
            raise TimeoutError(f"{what}: not within {deadline_s:g} s")
        time.sleep(0.02)
    return time.monotonic() - started_s
