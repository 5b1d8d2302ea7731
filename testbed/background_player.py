"""Background flows of a plan: started and stopped on time by the emulated world's workers, with a record of each.

Workers get scaled payload rates; what they report is converted to real-system units.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from scenario import BackgroundFlow
from testbed.calibration import TCP_PAYLOAD_SHARE
from testbed.fabric_up import FabricUp
from testbed.run_clock import RunClock
from testbed.worker_pool import BACKGROUND_PORT, Event, Tell

PAYLOAD_SHARE = {"tcp": TCP_PAYLOAD_SHARE, "udp": 1400 / 1442}
"""Share of payload in a full Ethernet frame, by protocol; a datagram of 1400 bytes (`workers.flows`) has 42 bytes of
headers."""

STOP_DEADLINE_S = 5.0


class BackgroundPlayer:
    """Plays a plan on the run's clock. `handlers`: callbacks for the events of background workers, by event name.

    `rows`: one mapping for each stopped flow. `failures`: one line for each failed flow. `emulated_bytes`: bytes that
    all flows have sent.
    """

    def __init__(self, up: FabricUp, plan: tuple[BackgroundFlow, ...], clock: RunClock, tell: Tell) -> None:
        self._up = up
        self._plan = plan
        self._clock = clock
        self._tell = tell
        self._running: set[int] = set()
        self._stopping: set[int] = set()
        self._by_id = {flow.flow_id: flow for flow in plan}
        self.rows: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self.emulated_bytes = 0
        self._paced_bytes = self._asked_bytes = 0.0
        self.handlers: dict[str, Callable[[Event], None]] = {
            "flow_stopped": self._on_stopped,
            "flow_failed": self._on_failed,
        }

    @property
    def paced_share(self) -> float | None:
        """What all paced flows together sent of what their rates ask for; None without one that has stopped."""
        return self._paced_bytes / self._asked_bytes if self._asked_bytes else None

    @property
    def instances(self) -> tuple[int, ...]:
        """Every instance that needs a background worker."""
        return tuple(sorted({end for flow in self._plan for end in (flow.source, flow.target)}))

    async def play(self) -> None:
        """Start and stop every flow at its time, at once where that has passed."""
        edges = sorted(
            [(flow.start_s, 1, flow) for flow in self._plan] + [(flow.stop_s, 0, flow) for flow in self._plan],
            key=lambda edge: (edge[0], edge[1], edge[2].flow_id),
        )
        for at_s, starts, flow in edges:
            await self._clock.until(at_s)
            if starts:
                self._running.add(flow.flow_id)
                address = (self._up.address(flow.target), BACKGROUND_PORT)
                self._tell("background", flow.source, start_command(flow, address, self._up.link_divisor))
            else:
                self._stop(flow)

    async def stop(self) -> None:
        """Stop all running flows and wait until their workers have confirmed it."""
        for flow in self._plan:
            self._stop(flow)
        until_s = time.monotonic() + STOP_DEADLINE_S
        while self._running and time.monotonic() < until_s:
            await asyncio.sleep(0.01)

    def _stop(self, flow: BackgroundFlow) -> None:
        """Tell the worker of a running flow to stop it, once."""
        if flow.flow_id in self._running - self._stopping:
            self._stopping.add(flow.flow_id)
            self._tell("background", flow.source, {"do": "flow_stop", "flow_id": flow.flow_id})

    def _on_stopped(self, event: Event) -> None:
        flow = self._by_id[event["flow_id"]]
        self._running.discard(flow.flow_id)
        self.emulated_bytes += event["bytes"]
        if flow.rate_bps is not None:
            self._paced_bytes += event["bytes"]
            payload_bps = flow.rate_bps / self._up.link_divisor * PAYLOAD_SHARE[flow.protocol]
            self._asked_bytes += payload_bps / 8 * (event["at_s"] - event["started_s"])
        self.rows.append(
            {
                **{"flow_id": flow.flow_id, "source": flow.source, "target": flow.target},
                **{"rate_bps": flow.rate_bps, "protocol": flow.protocol},
                "started_s": self._clock.real_s(event["started_s"]),
                "ended_s": self._clock.real_s(event["at_s"]),
                "bytes": event["bytes"] * self._up.spec.rate_scale,
                "source_ports": event["source_ports"],
                "retransmitted": event["retransmitted"],
            }
        )

    def _on_failed(self, event: Event) -> None:
        self._running.discard(event["flow_id"])
        self.failures.append(event["error"])


def start_command(flow: BackgroundFlow, address: tuple[str, int], link_divisor: float) -> dict[str, Any]:
    """The command that starts a flow; its `rate_bps` is of payload, on links that are `link_divisor` times slower."""
    wire_bps = None if flow.rate_bps is None else flow.rate_bps / link_divisor
    return {
        "do": "flow_start",
        "flow_id": flow.flow_id,
        "address": list(address),
        "connections": flow.connections,
        "rate_bps": None if wire_bps is None else wire_bps * PAYLOAD_SHARE[flow.protocol],
        "protocol": flow.protocol,
    }
