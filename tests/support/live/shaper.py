"""What comes through one veth pair, unshaped and shaped to a rate beyond Mininet's 1000 Mbit/s."""

from __future__ import annotations

import time
from typing import Any

from testbed.sandbox import RUN_DIR, run
from tests.support.live.lab import Lab
from tests.support.workers_driver import Worker
from topologies.shaping import Shape, shaping_command

FAST_BPS = 1.2e9


def fast_shaper(_lab: Lab) -> dict[str, Any]:
    """Goodput without and with a shaper, and the rate asked for, bit/s."""
    run("ip", "netns", "add", "far")
    run("ip", "link", "add", "near0", "type", "veth", "peer", "name", "far0", "netns", "far")
    run("ip", "address", "add", "192.0.2.1/24", "dev", "near0")
    run("ip", "netns", "exec", "far", "ip", "address", "add", "192.0.2.2/24", "dev", "far0")
    run("ip", "link", "set", "near0", "up")
    run("ip", "netns", "exec", "far", "ip", "link", "set", "far0", "up")
    into = ("ip", "netns", "exec", "far")
    with (
        Worker(RUN_DIR, "background", "far", "--address", "192.0.2.2", "--port", "7002", command=into) as sink,
        Worker(RUN_DIR, "background", "near", "--address", "192.0.2.1") as source,
    ):
        unshaped_bps = _goodput_bps(source, sink, 1)
        run("sh", "-c", shaping_command("near0", Shape(FAST_BPS, queue_packets=1000)))
        return {"asked_bps": FAST_BPS, "unshaped_bps": unshaped_bps, "shaped_bps": _goodput_bps(source, sink, 2)}


def _goodput_bps(source: Worker, sink: Worker, flow: int) -> float:
    source.tell("flow_start", flow_id=flow, address=("192.0.2.2", 7002), connections=1, rate_bps=None, protocol="tcp")
    time.sleep(0.5)
    sink.tell("report")
    before, started_s = sink.wait_for("report")["received_bytes"], time.monotonic()
    time.sleep(2.0)
    sink.tell("report")
    after, ended_s = sink.wait_for("report")["received_bytes"], time.monotonic()
    source.tell("flow_stop", flow_id=flow)
    source.wait_for("flow_stopped", flow_id=flow)
    bits: int = (after - before) * 8
    return bits / (ended_s - started_s)
