"""Background flows of a plan as commands to the emulated world's workers: rates scaled, headers left out."""

from __future__ import annotations

from typing import Any

from workloads import BackgroundFlow

PAYLOAD_OF_WIRE = {"tcp": 1448 / 1514, "udp": 1400 / 1442}
"""Payload bytes in a full Ethernet frame as shapers and port counters see it: 1514 bytes without checksum, of which TCP
with time stamps leaves 1448; a datagram of 1400 (`workers.flows`) has 42 bytes of headers."""


def start_command(flow: BackgroundFlow, address: tuple[str, int], link_divisor: float) -> dict[str, Any]:
    """What a background worker is told; its `rate_bps` paces payload on links `link_divisor` times slower."""
    wire_bps = None if flow.rate_bps is None else flow.rate_bps / link_divisor
    return {
        "do": "flow_start",
        "flow_id": flow.flow_id,
        "address": list(address),
        "connections": flow.connections,
        "rate_bps": None if wire_bps is None else wire_bps * PAYLOAD_OF_WIRE[flow.protocol],
        "protocol": flow.protocol,
    }
