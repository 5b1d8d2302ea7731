"""The paper's set-up as changes to the default specification, for sweeps; `specs/paper.yaml` has the sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PAPER_SET_UP: Mapping[str, Any] = {
    "fabric.gpus_per_instance": 4,
    "fabric.nvlink_rate_bps": 3.6e12,
    "fabric.nic_rate_bps": 1.0e11,
    "fabric.tor_oversubscription": 2,
    "fabric.aggregation_oversubscription": 2,
    "model.prefill_utilisation": 0.38,
    "model.step_table_s": [[1, 0.0126], [64, 0.0180]],
    "serving.placement": "first_rack",
    "serving.prefill": "at_once",
    "workload.profile": "rag",
    "workload.mean_input_tokens": 8400,
    "workload.input_spread": 0.85,
    "workload.sharing": 0.5,
    "workload.rate_rps": 1.1,
    "slo.ttft_s": 5,
}
"""Its fabric, model, prefill and workload."""

PAPER_TRAFFIC: Mapping[str, Any] = {
    "serving.stripes": 1,
    "serving.connections": "per_transfer",
    "congestion.kind": "constant",
    "congestion.utilisation": 0.15,
    "congestion.tiers": [1, 2, 3],
}
"""Its single path a transfer and its constant background, which a sweep over the age of telemetry replaces."""
