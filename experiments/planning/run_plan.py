"""What a specification asks of the fabric, worked out before anything runs: no root, no packets."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.running import RunSpec
from scenario import load_workload
from testbed import PAYLOAD_BYTES, afxdp_bytes, afxdp_lacks
from topologies import Level

EASY_MBPS = 150.0
"""Cross-pod traffic that a userspace datapath on two cores was measured to carry without strain, Mbit/s."""


LONGEST_LEAD_S = 120.0
"""A run that takes longer than this to begin deserves a warning, seconds of the real system: ours."""

LEAST_FRAMES = 64
"""Frames below which a blob's time in emulation is a matter of single frames more than of rates: goal of the tenth of
the blobs that is smallest (docs/explanation/fidelity.md)."""


def plan_run(spec: RunSpec) -> dict[str, Any]:
    """The fabric, the links a level, the tiers and the offered load, in real units and as emulated."""
    fabric, roles = spec.build()
    workload = load_workload(spec.scenario)
    requests = workload.requests
    divisor = spec.emulation.link_divisor
    span_s = requests[-1].timestamp_s or 1.0
    tokens = sum(request.input_length for request in requests)
    kv_bps = tokens * spec.model.kv_bytes_per_token * 8 / span_s
    prefill_s = sum(spec.model.prefill_s(request.input_length, spec.fabric.gpus_per_instance) for request in requests)
    tiers = np.bincount([fabric.tier(p, d) for p in roles.prefill for d in roles.decode], minlength=4)
    return {
        "gpus": spec.fabric.gpus,
        "instances": {"prefill": list(roles.prefill), "decode": list(roles.decode)},
        "switches": {level.name.lower(): len(fabric.switches_at(level)) for level in Level},
        "ports": {
            "datapath": spec.emulation.datapath,
            "count": spec.fabric.switch_ports,
            "memory_bytes": afxdp_bytes(spec.fabric.switch_ports) if spec.emulation.datapath == "afxdp" else 0,
        },
        "links": {
            name: {"real_gbps": rate_bps / 1e9, "emulated_mbps": rate_bps / divisor / 1e6}
            for name, rate_bps in (
                ("instance-server", spec.fabric.nvlink_rate_bps),
                ("server-tor", spec.fabric.nic_rate_bps),
                ("tor-aggregation", spec.fabric.tor_uplink_rate_bps),
                ("aggregation-core", spec.fabric.core_uplink_rate_bps),
            )
        },
        "tiers": [
            {
                "tier": tier,
                "pairs": int(tiers[tier]),
                "nominal_gbps": spec.fabric.tier_rate_bps(tier) / 1e9,
                "latency_us": spec.fabric.tier_latency_s(tier) * 1e6,
            }
            for tier in range(4)
        ],
        "workload": {
            "requests": len(requests),
            "seconds": span_s,
            "mean_input_tokens": tokens / len(requests),
            "prefill_utilisation": prefill_s / (span_s * len(roles.prefill)),
            "offered_kv_gbps": kv_bps / 1e9,
            "offered_kv_emulated_mbps": kv_bps / divisor / 1e6,
            **_smallest_blobs(spec, [request.input_length for request in requests]),
        },
        "warnings": list(workload.notes)
        + _warnings(spec, kv_bps / divisor / 1e6, prefill_s / (span_s * len(roles.prefill))),
    }


def _smallest_blobs(spec: RunSpec, prompts: list[int]) -> dict[str, float]:
    """Full frames of the tenth percentile of the blobs of whole prompts, and what would give it `LEAST_FRAMES` at the
    same load of the machine: a lower `rate_scale`, and as many times the `time_dilation`."""
    blob_B = float(np.percentile(prompts, 10)) * spec.model.kv_bytes_per_token
    frames = blob_B / spec.emulation.rate_scale / PAYLOAD_BYTES
    factor = max(LEAST_FRAMES / frames, 1.0)
    return {
        "tenth_blob_frames": frames,
        "rate_scale_for_frames": spec.emulation.rate_scale / factor,
        "time_dilation_for_frames": spec.emulation.time_dilation * factor,
    }


def _warnings(spec: RunSpec, kv_mbps: float, prefill_use: float) -> list[str]:
    found = []
    if spec.world == "emulated" and spec.emulation.datapath == "user" and kv_mbps > EASY_MBPS:
        found.append(
            f"{kv_mbps:.0f} Mbit/s of KV is beyond the {EASY_MBPS:g} that a userspace datapath carries with ease:"
            " raise emulation.rate_scale or emulation.time_dilation; `netkv plan --calibrate` says to what"
        )
    if spec.world == "emulated" and spec.scenario.lead_s > LONGEST_LEAD_S:
        found.append(
            f"background traffic and telemetry begin {spec.scenario.lead_s:.0f} s before the first request, a refresh"
            " interval and more: lower oracle.refresh_s, or say never"
        )
    if prefill_use > 1 and spec.serving.prefill == "queue":
        found.append(f"prefill is offered {prefill_use:.0%} of what it can do: its queue grows without end")
    if spec.emulation.datapath == "afxdp" and (lack := afxdp_lacks(spec.fabric.switch_ports)):
        found.append(f"this machine cannot run it on emulation.datapath=afxdp: {lack}; use emulation.datapath=user")
    return found
