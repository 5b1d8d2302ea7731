"""Background workers on the hosts of a fabric that is up, and round trips beside them, for the benchmarks."""

from __future__ import annotations

import re

from testbed.fabric_up import FabricUp
from testbed.sandbox import RUN_DIR
from tests.support.workers_driver import Worker

PINGS, PORT = 200, 7002


def background(up: FabricUp, instance: int) -> Worker:
    """One that sends as those of a run do."""
    node = up.net[up.fabric.instances[instance].name]
    options = (
        *("--address", up.address(instance), "--port", str(PORT)),
        *("--congestion-control", up.spec.congestion_control),
    )
    return Worker(RUN_DIR, "background", node.name, *options, command=("mnexec", "-a", str(node.pid)))


def ping_ms(up: FabricUp, target: int) -> tuple[float, float]:
    """Median and 99th percentile."""
    said = up.run_in(0, "ping", "-c", str(PINGS), "-i", "0.01", up.address(target))
    trips_ms = sorted(float(found) for found in re.findall(r"time=([\d.]+) ms", said))
    return trips_ms[len(trips_ms) // 2], trips_ms[int(0.99 * (len(trips_ms) - 1))]
